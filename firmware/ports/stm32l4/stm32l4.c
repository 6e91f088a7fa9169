/* STMicroelectronics STM32L4+ (RM0432) at 120 MHz from its internal 16 MHz oscillator (1 % off at most at room
 * temperature); serial line: LPUART1. */
#define STM32_GPIO 0x48000000u
#define STM32_TIMER 0x40000000u /* TIM2 */
#define STM32_USART 0x40008000u /* LPUART1: a serial port of the second kind but for its divider */
#define STM32_USART_V2
#include "stm32.h"
#include "wait.h"

#define RCC_CR ML_REGISTER(0x40021000u)
#define RCC_CFGR ML_REGISTER(0x40021008u)
#define RCC_PLLCFGR ML_REGISTER(0x4002100Cu)
#define RCC_AHB2ENR ML_REGISTER(0x4002104Cu)
#define RCC_APB1ENR1 ML_REGISTER(0x40021058u)
#define RCC_APB1ENR2 ML_REGISTER(0x4002105Cu)
#define CR_HSI_ON (1u << 8)
#define CR_HSI_READY (1u << 10)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define PLLCFGR_HSI_BY_4_TIMES_60_BY_2 (2u | 3u << 4 | 60u << 8 | 1u << 24)
#define CFGR_HSI 1u
#define CFGR_HSI_IN_USE (1u << 2)
#define CFGR_PLL 3u
#define CFGR_PLL_IN_USE (3u << 2)
#define CFGR_AHB_BY_2 (8u << 4)
#define APB1ENR1_TIM2 (1u << 0)
#define APB1ENR1_PWR (1u << 28)
#define APB1ENR2_LPUART1 (1u << 0)
#define PORT_G 6u

#define PWR_CR2 ML_REGISTER(0x40007004u)
#define PWR_CR5 ML_REGISTER(0x40007080u)
#define CR2_VDDIO2_VALID (1u << 9)
#define CR5_NO_BOOST (1u << 8)

#define FLASH_ACR ML_REGISTER(0x40022000u)
#define ACR_PREFETCH_AND_CACHES (7u << 8)
#define WAIT_STATES 5u

#define HSI_HZ 16000000u
#define AFTER_RESET_HZ 4000000u /* of the oscillator MSI */
_Static_assert(ML_CLOCK_HZ == 120000000u, "build.f_cpu: 120 MHz");

/* Range 1 with boost, as frequencies above 80 MHz want it; half the speed for a moment while the clock changes. Returns
 * the core's clock in Hz, whatever it has become. */
static uint32_t clock_init(void) {
    RCC_CR |= CR_HSI_ON;
    if (!ml_wait_for(&RCC_CR, CR_HSI_READY)) return AFTER_RESET_HZ;
    RCC_CFGR = CFGR_HSI;
    if (!ml_wait_for(&RCC_CFGR, CFGR_HSI_IN_USE)) return AFTER_RESET_HZ;
    PWR_CR5 &= ~CR5_NO_BOOST;
    RCC_PLLCFGR = PLLCFGR_HSI_BY_4_TIMES_60_BY_2;
    RCC_CR |= CR_PLL_ON;
    FLASH_ACR = ACR_PREFETCH_AND_CACHES | WAIT_STATES;
    if (!ml_wait_for(&RCC_CR, CR_PLL_READY) || (FLASH_ACR & 15u) != WAIT_STATES) return HSI_HZ;
    RCC_CFGR = CFGR_AHB_BY_2 | CFGR_PLL;
    if (!ml_wait_for(&RCC_CFGR, CFGR_PLL_IN_USE)) return HSI_HZ;
    for (volatile uint32_t i = 0; i < 100; i++) { /* at least a microsecond */
    }
    RCC_CFGR = CFGR_PLL;
    return ML_CLOCK_HZ;
}

static void serial_init(uint32_t clock_hz) {
    const uint32_t ports = 1u << (ML_TX >> 4) | 1u << (ML_RX >> 4);
    stm32_enable(&RCC_AHB2ENR, ports);
    if (ports & 1u << PORT_G) PWR_CR2 |= CR2_VDDIO2_VALID; /* port G has a supply of its own */
    stm32_pins_init();
    stm32_enable(&RCC_APB1ENR2, APB1ENR2_LPUART1);
    stm32_serial_init(clock_hz / 100u * 256u / (ML_BAUD / 100u));
}

void ml_port_init(void) {
    stm32_enable(&RCC_APB1ENR1, APB1ENR1_PWR | APB1ENR1_TIM2);
    serial_init(clock_init());
    stm32_counter_init();
}
