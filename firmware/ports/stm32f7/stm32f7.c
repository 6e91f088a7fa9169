/* STMicroelectronics STM32F7: as the STM32F4, but for a serial port of the second kind and the caches of a Cortex-M7.
 * Its RAM begins with the tightly coupled one: stack, variables and the first of the pool lie in it. */
#define STM32_USART_V2
#define STM32_FLASH_CACHES (1u << 9) /* the accelerator */
#include "stm32f4_f7.h"

/* Registers of the Cortex-M7's caches (DDI 0489, 4.1). */
#define SCB_CCR ML_REGISTER(0xE000ED14u)
#define SCB_CCSIDR ML_REGISTER(0xE000ED80u)
#define SCB_CSSELR ML_REGISTER(0xE000ED84u)
#define SCB_ICIALLU ML_REGISTER(0xE000EF50u)
#define SCB_DCISW ML_REGISTER(0xE000EF60u)
#define CCR_DATA_CACHE (1u << 16)
#define CCR_INSTRUCTION_CACHE (1u << 17)
#define BARRIER __asm__ volatile("dsb\n isb" ::: "memory")

/* After a reset they hold anything, and are off. Nobody but the core writes to memory: they stay coherent. */
static void enable_caches(void) {
    SCB_CSSELR = 0; /* tell me of the data cache */
    BARRIER;
    const uint32_t size = SCB_CCSIDR, last_set = size >> 13 & 0x7FFFu, last_way = size >> 3 & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; set++) {
        for (uint32_t way = 0; way <= last_way; way++) SCB_DCISW = set << 5 | way << 30;
    }
    SCB_ICIALLU = 0;
    BARRIER;
    SCB_CCR |= CCR_DATA_CACHE | CCR_INSTRUCTION_CACHE;
    BARRIER;
}

void ml_port_init(void) {
    enable_caches();
    stm32_init();
}
