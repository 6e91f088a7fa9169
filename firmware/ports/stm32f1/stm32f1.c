/* STMicroelectronics STM32F100 (RM0041) at 24 MHz; serial line: USART1 on PA9 (TX) and PA10 (RX). It has no timer of 32
 * bits. A crystal of 8 MHz, and if that does not start, half the internal oscillator's 8 MHz, drives the PLL. */
#define STM32_USART 0x40013800u
#include "stm32.h"
#include "systick.h"
#include "wait.h"

#define RCC_CR ML_REGISTER(0x40021000u)
#define RCC_CFGR ML_REGISTER(0x40021004u)
#define RCC_APB2ENR ML_REGISTER(0x40021018u)
#define CR_HSE_ON (1u << 16)
#define CR_HSE_READY (1u << 17)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define CFGR_PLL 2u
#define CFGR_PLL_IN_USE (2u << 2)
#define CFGR_PLL_HSE_TIMES_3 (1u << 16 | 1u << 18)
#define CFGR_PLL_HALF_HSI_TIMES_6 (4u << 18)
#define APB2ENR_PORT_A (1u << 2)
#define APB2ENR_USART1 (1u << 14)

#define GPIOA_CRH ML_REGISTER(0x40010804u)
#define GPIOA_BSRR ML_REGISTER(0x40010810u)
#define CRH_PIN9_OUTPUT_PIN10_PULLED 0x8B0u

#define HSI_HZ 8000000u
_Static_assert(ML_CLOCK_HZ == 24000000u, "build.f_cpu: 24 MHz");

static uint32_t clock_init(void) {
    RCC_CR |= CR_HSE_ON;
    RCC_CFGR = ml_wait_for(&RCC_CR, CR_HSE_READY) ? CFGR_PLL_HSE_TIMES_3 : CFGR_PLL_HALF_HSI_TIMES_6;
    RCC_CR |= CR_PLL_ON;
    if (!ml_wait_for(&RCC_CR, CR_PLL_READY)) return HSI_HZ;
    RCC_CFGR |= CFGR_PLL;
    return ml_wait_for(&RCC_CFGR, CFGR_PLL_IN_USE) ? ML_CLOCK_HZ : HSI_HZ;
}

void ml_port_init(void) {
    const uint32_t clock_hz = clock_init();
    stm32_enable(&RCC_APB2ENR, APB2ENR_PORT_A | APB2ENR_USART1);
    GPIOA_BSRR = 1u << 10; /* pulled up: an open line is silent */
    GPIOA_CRH = (GPIOA_CRH & ~0xFF0u) | CRH_PIN9_OUTPUT_PIN10_PULLED;
    stm32_serial_init((clock_hz + ML_BAUD / 2u) / ML_BAUD);
    systick_init();
}
