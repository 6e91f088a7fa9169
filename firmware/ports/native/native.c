/* The firmware as a process on a POSIX host: the serial line is stdin and stdout, a power cycle is a new exec. The
 * server runs on a stack of its own, painted as on a chip, so that its use can be measured. */
#define _GNU_SOURCE /* ucontext.h under -std=c11 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "port.h"

/* Pool and stack: the sections and symbols that a chip's linker script makes. Below the stack lies memory that nobody
 * may touch: a stack that overflows ends the process instead of writing over the pool. The build defines ML_RAM_BYTES
 * and ML_STACK_BYTES from the board's file. */
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define GUARD_BYTES 65536 /* whole pages on every host, whatever its page size */
__asm__(".pushsection .pool, \"aw\", %nobits\n"
        ".globl ml_pool_start, ml_pool_end\n"
        ".balign 16\n"
        "ml_pool_start: .skip " TEXT(ML_RAM_BYTES) " - " TEXT(
            ML_STACK_BYTES) "\n"
                            "ml_pool_end:\n"
                            ".popsection\n"
                            ".pushsection .stack, \"aw\", %nobits\n"
                            ".globl ml_stack_start, ml_stack_end\n"
                            ".balign " TEXT(GUARD_BYTES) "\n"
                                                         "ml_guard: .skip " TEXT(
                                                             GUARD_BYTES) "\n"
                                                                          "ml_stack_start: .skip " TEXT(
                                                                              ML_STACK_BYTES) "\n"
                                                                                              "ml_stack_end:\n"
                                                                                              ".popsection\n");
extern uint8_t ml_guard[];

void ml_port_init(void) {}

/* stdin may be a pipe or a socket shared with stdout: it stays blocking and is asked by poll() first. An empty line
 * sleeps for a millisecond, so that a waiting server does not burn a core of the host. */
int32_t ml_port_read(void) {
    static uint8_t buffer[4096];
    static ssize_t filled, next;
    if (next == filled) {
        struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&line, 1, 1) <= 0) {
            return -1;
        }
        next = 0;
        filled = read(STDIN_FILENO, buffer, sizeof buffer);
        if (filled <= 0) {
            _exit(0); /* the other side has gone */
        }
    }
    return buffer[next++];
}

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    while (count) {
        ssize_t sent = write(STDOUT_FILENO, bytes, count);
        if (sent < 0 && errno != EINTR) {
            _exit(0);
        }
        if (sent > 0) {
            bytes += sent;
            count -= (uint32_t)sent;
        }
    }
}

/* Units of 10 ns: 42 s until it wraps. */
uint32_t ml_port_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 100000000u + (uint64_t)now.tv_nsec / 10u);
}

_Noreturn void ml_port_reset(void) {
    char *const arguments[] = {(char[]){"microlith"}, NULL};
    execv("/proc/self/exe", arguments);
    _exit(1);
}

static void run_server(void) {
    ml_port_init();
    ml_main();
}

int main(void) {
    static ucontext_t context;
    mprotect(ml_guard, GUARD_BYTES, PROT_NONE);
    memset(ml_stack_start, ML_STACK_PAINT, (size_t)(ml_stack_end - ml_stack_start));
    getcontext(&context);
    context.uc_stack.ss_sp = ml_stack_start;
    context.uc_stack.ss_size = (size_t)(ml_stack_end - ml_stack_start);
    makecontext(&context, run_server, 0);
    setcontext(&context);
    return 1;
}
