/* What happens on every Cortex-M (ARMv6-M to ARMv8.1-M) before and beside the server: vector table, memory,
 * coprocessors, faults, reset. The chip's own part is its port. Compiles to nothing on other cores. */
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'

#include "registers.h"
#include "start.h"

/* System control block, at the same place in every Cortex-M. */
#define SCB_VTOR ML_REGISTER(0xE000ED08u) /* ARMv6-M may lack it; writes have no effect then */
#define SCB_AIRCR ML_REGISTER(0xE000ED0Cu)
#define SCB_CCR ML_REGISTER(0xE000ED14u)
#define SCB_CPACR ML_REGISTER(0xE000ED88u)
#define MPU_TYPE ML_REGISTER(0xE000ED90u)
#define MPU_CTRL ML_REGISTER(0xE000ED94u)
#define MPU_RNR ML_REGISTER(0xE000ED98u)
#define MPU_RBAR ML_REGISTER(0xE000ED9Cu)
#define MPU_RASR ML_REGISTER(0xE000EDA0u)
#define AIRCR_RESET_REQUEST 0x05FA0004u
#define CCR_LOW_OVERHEAD_LOOPS (1u << 19)
#define CPACR_CP10_CP11 (0xFu << 20)
#define MPU_TYPE_REGIONS 0xFF00u
#define MPU_CTRL_ENABLE 1u
#define MPU_CTRL_DEFAULT_MAP 4u
#define MPU_RASR_ENABLE 1u
#define MPU_RASR_4K (11u << 1)

_Noreturn void ml_start_core(void);

/* Chips that need more than the core's own reset bring their own. */
__attribute__((weak)) _Noreturn void ml_port_reset(void) {
    __asm__ volatile("dsb" ::: "memory");
    SCB_AIRCR = AIRCR_RESET_REQUEST;
    for (;;) { /* takes effect a few cycles later */
    }
}

__attribute__((used)) static _Noreturn void report_fault(uint32_t address) {
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    ml_report_fault(exception, address);
}

/* Takes the address from the frame that the core has pushed, unless the stack is so near its end (256 bytes) that it
 * may be what broke: then there may be no frame, and C needs a new stack. */
__attribute__((naked)) static void on_exception(void) {
    __asm__ volatile(".syntax unified\n"
                     "mrs r1, msp\n"
                     "movs r0, #0\n"
                     "ldr r2, =ml_stack_start + 256\n"
                     "cmp r1, r2\n"
                     "bhs 1f\n"
                     "ldr r2, =ml_stack_end\n"
                     "mov sp, r2\n"
                     "b 2f\n"
                     "1: ldr r0, [r1, #24]\n"
                     "2: ldr r1, =report_fault\n"
                     "bx r1\n");
}

/* For ports that use SysTick; else it is an exception like all others. */
__attribute__((weak, alias("on_exception"))) void ml_on_systick(void);

/* First in memory: initial stack pointer, then the 15 exceptions of the architecture. */
typedef struct vector_table {
    const void *stack;
    void (*entries[15])(void);
} vector_table;

__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    ml_stack_end,
    {ml_start_core, on_exception, on_exception, on_exception, on_exception, on_exception, on_exception, on_exception,
     on_exception, on_exception, on_exception, on_exception, on_exception, on_exception, ml_on_systick},
};

/* Floating point and vector units are off after reset, and an instruction of theirs would fault. */
static inline void enable_coprocessors(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= CPACR_CP10_CP11;
#endif
#if defined(__ARM_FEATURE_MVE)
    SCB_CCR |= CCR_LOW_OVERHEAD_LOOPS;
#endif
    __asm__ volatile("dsb\n isb" ::: "memory");
}

/* The stack is the lowest block of RAM (see cortex_m.ld): one that overflows runs into a hole and faults. Where there
 * is no hole, or none that faults, the core's own means make one: the stack limit of ARMv8-M, or a memory protection
 * region of 4 KB just below the stack. Cores without either (ARMv6-M mostly) rely on the hole. */
static inline void guard_stack(void) {
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
    __asm__ volatile("msr msplim, %0" ::"r"(ml_stack_start));
#elif __ARM_ARCH < 8
    if (MPU_TYPE & MPU_TYPE_REGIONS) {
        MPU_RNR = 0;
        MPU_RBAR = (uint32_t)(uintptr_t)ml_stack_start - 4096u;
        MPU_RASR = MPU_RASR_ENABLE | MPU_RASR_4K; /* no access rights at all */
        MPU_CTRL = MPU_CTRL_ENABLE | MPU_CTRL_DEFAULT_MAP;
    }
#endif
    __asm__ volatile("dsb\n isb" ::: "memory");
}

_Noreturn void ml_start_core(void) {
    uint32_t *stack_pointer;
    SCB_VTOR = (uint32_t)(uintptr_t)&vectors; /* whoever started this image, a boot loader or a debugger */
    enable_coprocessors();
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    ml_prepare_memory(stack_pointer);
    guard_stack();
    ml_port_init();
    ml_main();
}

#else
typedef int ml_no_cortex_m; /* a translation unit may not be empty */
#endif
