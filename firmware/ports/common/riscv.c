/* What happens on every 32-bit RISC-V core before and beside the server: reset, memory, traps. The chip's own part is
 * its port. Compiles to nothing on other cores. */
#if defined(__riscv)

#include "riscv.h"
#include "start.h"

_Noreturn void ml_power_on(void);

__attribute__((used)) static _Noreturn void on_trap(const uint8_t *stack_pointer) {
    uint32_t cause, address;
    READ_CSR("mcause", cause);
    READ_CSR("mepc", address);
    ml_report_fault(cause, stack_pointer < ml_stack_start + 256 ? 0 : address); /* 0: the stack is what broke */
}

_Noreturn void ml_start_core(void) {
    uint32_t *stack_pointer;
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer));
    ml_prepare_memory(stack_pointer);
    ml_port_init();
    ml_main();
}

/* A trap gets the whole stack anew: the old one may be what broke. Some cores want 256 for its alignment. */
__attribute__((naked, aligned(256))) static void trap(void) {
    __asm__ volatile("mv a0, sp\n"
                     "la sp, ml_stack_end\n"
                     "j on_trap");
}

/* The first code in memory. */
__attribute__((naked, section(".reset"), used)) _Noreturn void ml_power_on(void) {
    WRITE_CSR("mtvec", trap);
    __asm__ volatile("la sp, ml_stack_end\n"
                     "j ml_start_chip");
}

#else
typedef int ml_no_riscv; /* a translation unit may not be empty */
#endif
