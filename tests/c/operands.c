/* Runs the kernels of a program with damaged arguments, each operand in memory of its own that is no larger than the
 * kernel's check asks for, under AddressSanitizer and UndefinedBehaviorSanitizer: where operands lie side by side in an
 * arena, a byte beyond one of them would not be seen.
 *
 *   operands PROGRAM SEED COUNT   COUNT times for each step
 *   prints "accepted N of COUNT"; a sanitizer's report ends it with another exit code than 0.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "edges.h"
#include "kernel.h"

#define PROGRAM_LIMIT (1u << 22)
#define MEMORY_LIMIT (1u << 16) /* of all operands: what a kernel computes may grow with the square of it */
#define ARGS_LIMIT 1024u
#define KERNEL_LIMIT_S 20u
#define FEW 24u /* sides and numbers of channels that are tried most */
#define MISFIT 8u /* bytes in which all alignments come */

typedef struct attack {
    const ml_kernel *kernel;
    const uint8_t *program;
    const ml_operand *original;
    ml_operand operands[ML_MAX_OPERANDS];
    _Alignas(8) uint8_t args[ARGS_LIMIT];
} attack;

static attack now;

static void tell(void) {
    fprintf(stderr, "kernel 0x%X, arguments by halves of words:", (unsigned)now.kernel->number);
    for (uint32_t i = 0; i < now.kernel->args_bytes; i += 2) {
        fprintf(stderr, " %u", (unsigned)(now.args[i] | now.args[i + 1u] << 8));
    }
    for (uint32_t i = 0; i < now.kernel->operand_count; i++) {
        fprintf(stderr, "%s%u", i == 0 ? "; bytes of operands: " : ", ", (unsigned)now.operands[i].bytes);
    }
    fprintf(stderr, "\n");
}

void __asan_set_death_callback(void (*callback)(void));
void __ubsan_on_report(void);
void __ubsan_on_report(void) { tell(); }

static void too_long(int signal) {
    (void)signal;
    tell();
    _exit(4);
}

static const ml_kernel *kernel_of(uint32_t number) {
    const ml_kernel *kernel = ml_kernels;
    while (kernel->number != number) {
        kernel++;
    }
    return kernel;
}

static void damage(void) {
    for (uint32_t changes = next_random() % 6u; changes != 0 && now.kernel->args_bytes != 0; changes--) {
        uint32_t bytes = next_random() % 3u == 0 ? 2 : 4, at = next_random() % now.kernel->args_bytes / bytes * bytes;
        uint32_t value = 0;
        memcpy(&value, now.args + at, bytes);
        value = next_random() % 2u != 0 ? next_random() % FEW : interesting(value);
        memcpy(now.args + at, &value, bytes);
    }
}

static bool accepted(void) { return now.kernel->check(now.args, now.operands) == ML_OK; }

/* Operands where the original has them, and at times where it could have some, of any alignment that is allowed. */
static void place_operands(void) {
    uint32_t most = next_random() % 2u != 0 ? MEMORY_LIMIT : ML_OFFSET_MASK;
    for (uint32_t i = 0; i < now.kernel->operand_count; i++) {
        uint32_t slots = now.kernel->slots[i], regions = slots >> ML_SLOT_REGIONS, fixed = slots & (MISFIT - 1u);
        bool there = now.original[i].ref != 0;
        there = (regions & 1u) != 0 && regions != 1 && next_random() % 8u == 0 ? !there : there;
        uint32_t misfit = next_random() % 2u != 0 ? next_random() & (MISFIT - 1u) & ~fixed : 0;
        now.operands[i] = (ml_operand){there ? ((uint32_t)ML_REGION_ARENA << 28) + misfit : 0, there ? most : 0};
    }
}

/* Makes operands as small as the check lets them be. */
static void shrink_operands(void) {
    for (uint32_t i = 0; i < now.kernel->operand_count; i++) {
        uint32_t low = 0, high = now.operands[i].bytes;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2u;
            now.operands[i].bytes = middle;
            if (accepted()) {
                high = middle;
            } else {
                low = middle + 1u;
            }
        }
        now.operands[i].bytes = high;
    }
}

/* Numbers at random, or what the program has there, over and over. */
static void fill(uint8_t *to, const ml_operand *original, uint32_t bytes) {
    bool constant = original->ref >> 28 == ML_REGION_PROGRAM && original->bytes != 0 && next_random() % 2u != 0;
    const uint8_t *from = now.program + (original->ref & ML_OFFSET_MASK);
    for (uint32_t i = 0; i < bytes; i++) {
        to[i] = constant ? from[i % original->bytes] : (uint8_t)next_random();
    }
}

static void run(void) {
    uint8_t *blocks[ML_MAX_OPERANDS] = {NULL}, *args = malloc(now.kernel->args_bytes);
    void *pointers[ML_MAX_OPERANDS] = {NULL};
    uint32_t count = now.kernel->operand_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t misfit = now.operands[i].ref & (MISFIT - 1u), bytes = now.operands[i].bytes;
        if (now.operands[i].ref != 0) {
            blocks[i] = malloc(misfit + bytes);
            pointers[i] = blocks[i] + misfit;
            fill(pointers[i], &now.original[i], bytes);
        }
    }
    for (uint32_t i = 0; i < count; i++) { /* at times in the place of another that is as large */
        uint32_t other = next_random() % count;
        bool fits =
            pointers[i] != NULL && pointers[other] != NULL && now.operands[i].bytes <= now.operands[other].bytes;
        if (fits && (((uintptr_t)pointers[i] ^ (uintptr_t)pointers[other]) & (MISFIT - 1u)) == 0 &&
            next_random() % 8u == 0) {
            pointers[i] = pointers[other];
        }
    }
    memcpy(args, now.args, now.kernel->args_bytes);
    alarm(KERNEL_LIMIT_S);
    (void)now.kernel->run(args, pointers);
    alarm(0);
    free(args);
    for (uint32_t i = 0; i < count; i++) {
        free(blocks[i]);
    }
}

static bool attack_once(void) {
    damage();
    place_operands();
    if (!accepted()) {
        return false;
    }
    shrink_operands();
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < now.kernel->operand_count && bytes <= MEMORY_LIMIT; i++) {
        bytes += now.operands[i].bytes;
    }
    if (bytes > MEMORY_LIMIT) {
        return false;
    }
    if (!accepted()) {
        fprintf(stderr, "a check takes operands of some size, and not larger ones\n");
        tell();
        exit(3);
    }
    run();
    return true;
}

int main(int count, char **arguments) {
    if (count != 4) {
        return 2;
    }
    signal(SIGALRM, too_long);
    __asan_set_death_callback(tell);
    FILE *file = fopen(arguments[1], "rb");
    static _Alignas(16) uint8_t program[PROGRAM_LIMIT];
    if (file == NULL || fread(program, 1, sizeof program, file) < sizeof(ml_header)) {
        return 2;
    }
    random_state = strtoull(arguments[2], NULL, 10) + 1u;
    uint32_t times = (uint32_t)strtoul(arguments[3], NULL, 10), run_count = 0;
    const ml_header *header = (const ml_header *)(const void *)program;
    for (uint32_t i = 0; i < times * header->step_count; i++) {
        const ml_step_record *step = (const ml_step_record *)(const void *)(program + header->steps) + i / times;
        now.kernel = kernel_of(step->kernel);
        now.program = program;
        now.original = (const ml_operand *)(const void *)(program + header->operands) + step->first_operand;
        memcpy(now.args, program + step->args, now.kernel->args_bytes);
        run_count += attack_once();
    }
    printf("accepted %u of %u\n", (unsigned)run_count, (unsigned)(times * header->step_count));
    return 0;
}
