/* Runs damaged programs under AddressSanitizer and UndefinedBehaviorSanitizer: whatever ml_open() accepts must run
 * without touching a byte outside the memory it was lent.
 *
 *   hostile PROGRAM SEED COUNT TABLES   COUNT mutations of PROGRAM, most of them in its first TABLES bytes
 *   prints "accepted N of COUNT"; a sanitizer's report ends it with another exit code than 0.
 *
 *   hostile -                           programs from standard input, each after its size (4 bytes, little-endian);
 *   answers each with a byte: 1 if it was run, 0 if it was refused.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "edges.h"
#include "kernel.h"

#define STEP_LIMIT 2000u
#define PROGRAM_LIMIT_S 20u /* of one program: its steps are limited, what a step takes is the kernels' to limit */
#define MEMORY_LIMIT (1u << 22)

/* Tables and arguments lie before the constants: `tables` bytes in which a change matters most. */
static void mutate(uint8_t *block, uint32_t bytes, uint32_t tables) {
    uint32_t changes = 1u + next_random() % 3u;
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t limit = next_random() % 8u != 0 ? tables : bytes;
        uint32_t word = (next_random() % (limit / 4u)) * 4u;
        uint32_t value;
        memcpy(&value, block + word, 4);
        value = next_random() % 4u != 0 ? interesting(value) : value + (next_random() & 0xFF00FFu) - 128u;
        memcpy(block + word, &value, 4);
    }
}

static void *allocate(uint32_t bytes) { return bytes == 0 ? NULL : aligned_alloc(16, (bytes + 15u) / 16u * 16u); }

/* Whether the program was accepted. Memory has exactly the size it asks for, so that a byte too far is seen. */
static bool run(const uint8_t *block, uint32_t bytes) {
    ml_session session;
    alarm(PROGRAM_LIMIT_S);
    if (ml_open_trusted_storage(&session, block, bytes) != ML_OK) {
        return false;
    }
    ml_memory memory = {.arena_bytes = ml_arena_bytes(&session),
                        .fast_bytes = ml_fast_bytes(&session),
                        .state_bytes = ml_state_bytes(&session)};
    if (memory.arena_bytes > MEMORY_LIMIT || memory.fast_bytes > MEMORY_LIMIT || memory.state_bytes > MEMORY_LIMIT) {
        return false;
    }
    memory.arena = allocate(memory.arena_bytes);
    memory.fast = allocate(memory.fast_bytes);
    memory.state = allocate(memory.state_bytes);
    if (memory.arena != NULL) {
        memset(memory.arena, 0x5A, memory.arena_bytes);
    }
    if (ml_start(&session, &memory) == ML_OK) {
        uint32_t step = 0;
        for (uint32_t i = 0; i < STEP_LIMIT && step < ml_step_count(&session); i++) {
            if (ml_invoke_step(&session, &step) != ML_OK) {
                break;
            }
        }
    }
    free(memory.arena);
    free(memory.fast);
    free(memory.state);
    return true;
}

static void too_long(int signal) {
    static const char text[] = "a program takes longer than it may\n";
    (void)signal;
    _exit(write(2, text, sizeof text - 1u) < 0 ? 5 : 4);
}

static int serve(void) {
    uint32_t bytes;
    while (fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        uint8_t *block = allocate(bytes);
        if (block != NULL && fread(block, 1, bytes, stdin) == bytes) {
            putchar(run(block, bytes));
            fflush(stdout);
        }
        free(block);
    }
    return 0;
}

int main(int count, char **arguments) {
    signal(SIGALRM, too_long);
    if (count == 2) {
        return serve();
    }
    if (count != 5) {
        return 2;
    }
    FILE *file = fopen(arguments[1], "rb");
    static uint8_t original[MEMORY_LIMIT];
    uint32_t bytes = file == NULL ? 0 : (uint32_t)fread(original, 1, sizeof original, file);
    random_state = strtoull(arguments[2], NULL, 10) + 1u;
    uint32_t mutations = (uint32_t)strtoul(arguments[3], NULL, 10);
    uint32_t tables = (uint32_t)strtoul(arguments[4], NULL, 10);
    uint8_t *block = allocate(bytes);
    memcpy(block, original, bytes);
    if (!run(block, bytes)) {
        fprintf(stderr, "the program as it is was refused\n");
        return 3;
    }
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < mutations; i++) {
        memcpy(block, original, bytes);
        mutate(block, bytes, tables);
        accepted += run(block, bytes);
    }
    free(block);
    printf("accepted %u of %u\n", (unsigned)accepted, (unsigned)mutations);
    return 0;
}
