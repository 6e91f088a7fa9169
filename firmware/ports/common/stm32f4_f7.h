/* STM32F4 (RM0090, RM0383, RM0390) and STM32F7 (RM0385): the same clocks, timers and pins, other serial ports.
 * The port says STM32_FLASH_CACHES, bits of
 * FLASH_ACR. A board's file says, beside what stm32.h wants:
 *   ML_HSE_HZ          frequency at the oscillator's pins, a whole number of MHz; left out if there is none
 *   ML_HSE_BYPASS      1 if it is a clock that comes from elsewhere, not a crystal
 * Without an oscillator, or with one that does not start, the internal one drives the PLL: 16 MHz +/- 1 %. */
#ifndef ML_STM32F4_F7_H
#define ML_STM32F4_F7_H

#include "wait.h"

#define STM32_GPIO 0x40020000u
#define STM32_TIMER 0x40000000u /* TIM2 */
#if ML_USART == 1
#define STM32_USART 0x40011000u
#elif ML_USART == 2
#define STM32_USART 0x40004400u
#elif ML_USART == 3
#define STM32_USART 0x40004800u
#elif ML_USART == 6
#define STM32_USART 0x40011400u
#else
#error "ML_USART must be 1, 2, 3 or 6"
#endif
#include "stm32.h"

#define RCC_CR ML_REGISTER(0x40023800u)
#define RCC_PLLCFGR ML_REGISTER(0x40023804u)
#define RCC_CFGR ML_REGISTER(0x40023808u)
#define RCC_AHB1ENR ML_REGISTER(0x40023830u)
#define RCC_APB1ENR ML_REGISTER(0x40023840u)
#define RCC_APB2ENR ML_REGISTER(0x40023844u)
#define CR_HSE_ON (1u << 16)
#define CR_HSE_READY (1u << 17)
#define CR_HSE_BYPASS (1u << 18)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define PLLCFGR_HSE (1u << 22)
#define CFGR_PLL 2u
#define CFGR_PLL_IN_USE (2u << 2)
#define CFGR_APB1_BY_2 (4u << 10)
#define CFGR_APB1_BY_4 (5u << 10)
#define CFGR_APB2_BY_2 (4u << 13)
#define APB1ENR_TIM2 (1u << 0)
#define APB1ENR_PWR (1u << 28)

#define PWR_CR ML_REGISTER(0x40007000u)
#define PWR_CSR ML_REGISTER(0x40007004u)
#define PWR_SCALE_1 (3u << 14)
#define PWR_OVER_DRIVE (1u << 16)
#define PWR_OVER_DRIVE_SWITCH (1u << 17)

#define FLASH_ACR ML_REGISTER(0x40023C00u)
#define ACR_PREFETCH (1u << 8)

#define HSI_HZ 16000000u
#define NEEDS_PLL (ML_CLOCK_HZ != HSI_HZ)
#define NEEDS_OVER_DRIVE (ML_CLOCK_HZ > 168000000u)
#define MHZ 1000000u
#define WAIT_STATES ((ML_CLOCK_HZ - 1u) / 30000000u) /* from 2.7 V on */
/* Prescalers that keep the two peripheral buses within every family's limits. */
#define APB1_DIVIDER (ML_CLOCK_HZ > 100 * MHZ ? 4u : ML_CLOCK_HZ > 42 * MHZ ? 2u : 1u)
#define APB2_DIVIDER (ML_CLOCK_HZ > 100 * MHZ ? 2u : 1u)
_Static_assert(!NEEDS_PLL || (ML_CLOCK_HZ % MHZ == 0 && ML_CLOCK_HZ >= 50 * MHZ && ML_CLOCK_HZ <= 216 * MHZ),
               "build.f_cpu: 16 MHz, or whole MHz from 50 to 216");

/* Where the PLL's input of 1 MHz comes from: PLLCFGR's bits. */
static inline uint32_t pll_source(void) {
#if defined(ML_HSE_HZ)
    RCC_CR |= ML_HSE_BYPASS ? CR_HSE_BYPASS : 0u; /* while it is off */
    RCC_CR |= CR_HSE_ON;
    if (ml_wait_for(&RCC_CR, CR_HSE_READY)) return PLLCFGR_HSE | ML_HSE_HZ / MHZ;
#endif
    return HSI_HZ / MHZ;
}

static inline uint32_t over_drive(void) {
    PWR_CR |= PWR_OVER_DRIVE;
    if (!ml_wait_for(&PWR_CSR, PWR_OVER_DRIVE)) return 0;
    PWR_CR |= PWR_OVER_DRIVE_SWITCH;
    return ml_wait_for(&PWR_CSR, PWR_OVER_DRIVE_SWITCH);
}

/* The core's clock in Hz: ML_CLOCK_HZ, or the internal oscillator's where the PLL does not start. */
static inline uint32_t clock_init(void) {
    if (!NEEDS_PLL) return HSI_HZ;
    stm32_enable(&RCC_APB1ENR, APB1ENR_PWR);
    PWR_CR |= PWR_SCALE_1;
    RCC_PLLCFGR = pll_source() | 2u * (ML_CLOCK_HZ / MHZ) << 6 | 0u << 16 | 8u << 24 | 2u << 28; /* 2 MHz * N / 2 */
    RCC_CR |= CR_PLL_ON;
    RCC_CFGR |= (APB1_DIVIDER == 4   ? CFGR_APB1_BY_4
                 : APB1_DIVIDER == 2 ? CFGR_APB1_BY_2
                                     : 0u) |
                (APB2_DIVIDER == 2 ? CFGR_APB2_BY_2 : 0u);
    if (!ml_wait_for(&RCC_CR, CR_PLL_READY) || (NEEDS_OVER_DRIVE && !over_drive())) return HSI_HZ;
    FLASH_ACR = WAIT_STATES | ACR_PREFETCH | STM32_FLASH_CACHES;
    if ((FLASH_ACR & 15u) != WAIT_STATES) return HSI_HZ;
    RCC_CFGR |= CFGR_PLL;
    return ml_wait_for(&RCC_CFGR, CFGR_PLL_IN_USE) ? ML_CLOCK_HZ : HSI_HZ;
}

static inline void serial_init(uint32_t core_hz) {
    stm32_enable(&RCC_AHB1ENR, 1u << (ML_TX >> 4) | 1u << (ML_RX >> 4));
    stm32_pins_init();
    uint32_t hz = core_hz / APB2_DIVIDER;
    if (ML_USART == 1 || ML_USART == 6) {
        stm32_enable(&RCC_APB2ENR, 1u << (ML_USART == 1 ? 4 : 5));
    } else {
        stm32_enable(&RCC_APB1ENR, 1u << (15u + ML_USART));
        hz = core_hz / APB1_DIVIDER;
    }
    stm32_serial_init((hz + ML_BAUD / 2u) / ML_BAUD);
}

/* TIM2 counts at twice its bus's clock, if that has a prescaler: the core's, or half of it above 100 MHz. */
static inline void stm32_init(void) {
    serial_init(clock_init());
    stm32_enable(&RCC_APB1ENR, APB1ENR_TIM2);
    stm32_counter_init();
}

#endif
