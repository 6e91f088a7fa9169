/* STMicroelectronics STM32F405 (RM0090) on its internal 16 MHz oscillator; serial line: USART6 on PC6 (TX) and PC7
 * (RX), which a Netduino Plus 2 has on its pins D1 and D0. */
#include "port.h"
#include "registers.h"

#define RCC_AHB1ENR ML_REGISTER(0x40023830u)
#define RCC_APB1ENR ML_REGISTER(0x40023840u)
#define RCC_APB2ENR ML_REGISTER(0x40023844u)
#define AHB1ENR_GPIOC (1u << 2)
#define APB1ENR_TIM2 (1u << 0)
#define APB2ENR_USART6 (1u << 5)

#define GPIOC_MODER ML_REGISTER(0x40020800u)
#define GPIOC_AFRL ML_REGISTER(0x40020820u)

#define USART_SR ML_REGISTER(0x40011400u)
#define USART_DR ML_REGISTER(0x40011404u)
#define USART_BRR ML_REGISTER(0x40011408u)
#define USART_CR1 ML_REGISTER(0x4001140Cu)
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define CR1_UE (1u << 13)

#define TIM2_CR1 ML_REGISTER(0x40000000u)
#define TIM2_EGR ML_REGISTER(0x40000014u)
#define TIM2_CNT ML_REGISTER(0x40000024u)
#define TIM2_PSC ML_REGISTER(0x40000028u)
#define TIM2_ARR ML_REGISTER(0x4000002Cu)

static void serial_init(void) {
    RCC_AHB1ENR |= AHB1ENR_GPIOC;
    RCC_APB2ENR |= APB2ENR_USART6;
    GPIOC_AFRL = (GPIOC_AFRL & 0x00FFFFFFu) | 0x88000000u; /* pins 6 and 7: alternate function 8 */
    GPIOC_MODER = (GPIOC_MODER & 0xFFFF0FFFu) | 0x0000A000u;
    USART_BRR = (ML_CLOCK_HZ + ML_BAUD / 2u) / ML_BAUD;
    USART_CR1 = CR1_UE | CR1_TE | CR1_RE;
}

/* TIM2 has 32 bits. ML_TICK_DIVIDER comes from the board's file. */
static void counter_init(void) {
    RCC_APB1ENR |= APB1ENR_TIM2;
    TIM2_PSC = ML_TICK_DIVIDER - 1u;
    TIM2_ARR = UINT32_MAX;
    TIM2_EGR = 1; /* loads the prescaler */
    TIM2_CR1 = 1;
}

void ml_port_init(void) {
    serial_init();
    counter_init();
}

int32_t ml_port_read(void) { return (USART_SR & SR_RXNE) ? (int32_t)(USART_DR & 0xFFu) : -1; }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (!(USART_SR & SR_TXE)) {
        }
        USART_DR = bytes[i];
    }
}

uint32_t ml_port_ticks(void) { return TIM2_CNT; }
