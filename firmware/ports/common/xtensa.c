/* What happens on every Xtensa core with register windows before and beside the server: reset, window exceptions,
 * memory, faults. The chip's own part is its port. Compiles to nothing on other cores. */
#if defined(__XTENSA__)

#include "start.h"

/* The window exceptions save and restore four, eight or twelve registers of the oldest frame, as the windowed calling
 * convention places them (Xtensa ISA reference manual, 4.7.1 and 8.1): 64 bytes of code each. Beside them, at offsets
 * that the cores of this family share, the entries for all other exceptions: nobody handles these. */
__asm__(".section .vectors, \"ax\"\n"
        ".balign 1024\n"
        "ml_vectors:\n"
        "s32e a0, a5, -16\n s32e a1, a5, -12\n s32e a2, a5, -8\n s32e a3, a5, -4\n rfwo\n"
        ".org ml_vectors + 0x40\n"
        "l32e a0, a5, -16\n l32e a1, a5, -12\n l32e a2, a5, -8\n l32e a3, a5, -4\n rfwu\n"
        ".org ml_vectors + 0x80\n"
        "s32e a0, a9, -16\n l32e a0, a1, -12\n s32e a1, a9, -12\n s32e a2, a9, -8\n s32e a3, a9, -4\n"
        "s32e a4, a0, -32\n s32e a5, a0, -28\n s32e a6, a0, -24\n s32e a7, a0, -20\n rfwo\n"
        ".org ml_vectors + 0xC0\n"
        "l32e a0, a9, -16\n l32e a1, a9, -12\n l32e a2, a9, -8\n l32e a7, a1, -12\n l32e a3, a9, -4\n"
        "l32e a4, a7, -32\n l32e a5, a7, -28\n l32e a6, a7, -24\n l32e a7, a7, -20\n rfwu\n"
        ".org ml_vectors + 0x100\n"
        "s32e a0, a13, -16\n l32e a0, a1, -12\n s32e a1, a13, -12\n s32e a2, a13, -8\n s32e a3, a13, -4\n"
        "s32e a4, a0, -48\n s32e a5, a0, -44\n s32e a6, a0, -40\n s32e a7, a0, -36\n s32e a8, a0, -32\n"
        "s32e a9, a0, -28\n s32e a10, a0, -24\n s32e a11, a0, -20\n rfwo\n"
        ".org ml_vectors + 0x140\n"
        "l32e a0, a13, -16\n l32e a1, a13, -12\n l32e a2, a13, -8\n l32e a11, a1, -12\n l32e a3, a13, -4\n"
        "l32e a4, a11, -48\n l32e a5, a11, -44\n l32e a6, a11, -40\n l32e a7, a11, -36\n l32e a8, a11, -32\n"
        "l32e a9, a11, -28\n l32e a10, a11, -24\n l32e a11, a11, -20\n rfwu\n"
        ".org ml_vectors + 0x300\n" /* kernel */
        "mov a2, a1\n j ml_on_exception\n"
        ".org ml_vectors + 0x340\n" /* user */
        "mov a2, a1\n j ml_on_exception\n"
        ".org ml_vectors + 0x3C0\n" /* in one of the window exceptions: the stack is what broke */
        "movi a2, 0\n j ml_on_exception\n"
        /* A fault gets the whole stack anew, and all register windows. */
        "ml_on_exception:\n"
        "rsr a3, exccause\n"
        "rsr a4, epc1\n"
        "j ml_begin_exception\n"
        ".text\n");

/* PS: window overflows on; all interrupts off. */
#define PS_RUNNING "0x4000F"

/* The first code in memory. Brings the core into the state that it has after a power cycle. */
__asm__(".section .reset, \"ax\"\n"
        ".global ml_power_on\n"
        "ml_power_on:\n"
        "j ml_begin\n"
        ".balign 4\n"
        "ml_begin_words:\n"
        ".long ml_vectors, ml_start_chip, ml_on_fault, ml_stack_end, " PS_RUNNING "\n"
        "ml_begin:\n"
        "movi a0, 0x1F\n wsr a0, ps\n rsync\n"
        "movi a0, 0\n wsr a0, windowbase\n rsync\n"
        "movi a0, 0\n wsr a0, lcount\n wsr a0, intenable\n"
        "l32r a0, ml_begin_words\n wsr a0, vecbase\n"
        "movi a0, 1\n wsr a0, cpenable\n" /* floating point */
        "l32r a5, ml_begin_words + 4\n"
        "ml_begin_windowed:\n" /* calls a5 with a2 to a4, on the whole stack */
        "rsr a0, windowbase\n ssl a0\n movi a0, 1\n sll a0, a0\n wsr a0, windowstart\n"
        "l32r a0, ml_begin_words + 16\n wsr a0, ps\n rsync\n"
        "l32r a1, ml_begin_words + 12\n"
        "mov a8, a4\n mov a7, a3\n mov a6, a2\n"
        "movi a0, 0\n"
        "callx4 a5\n"
        "ml_begin_exception:\n"
        "l32r a5, ml_begin_words + 8\n"
        "j ml_begin_windowed\n"
        ".text\n"); /* literals of the code that follows lie in the section before it */

_Noreturn void ml_power_on(void);
_Noreturn void ml_on_fault(uint32_t stack_pointer, uint32_t cause, uint32_t address);

_Noreturn void ml_on_fault(uint32_t stack_pointer, uint32_t cause, uint32_t address) {
    const uint32_t above = stack_pointer - (uint32_t)(uintptr_t)ml_stack_start;
    ml_report_fault(cause, above < 256u || above > ML_STACK_BYTES ? 0 : address); /* 0: the stack is what broke */
}

_Noreturn void ml_start_core(void) {
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    ml_prepare_memory(stack_pointer);
    ml_port_init();
    ml_main();
}

#else
typedef int ml_no_xtensa; /* a translation unit may not be empty */
#endif
