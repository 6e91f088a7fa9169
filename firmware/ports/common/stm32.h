/* What the STM32 families have in common: pins, serial ports, the timer TIM2. A family's port says first where its own
 * are (STM32_GPIO, STM32_TIMER, and STM32_USART_V2 for a port with separate data registers, else one as in the first
 * families), and a board's file which it uses:
 *   ML_USART           number of the serial port, as its port knows it
 *   ML_TX, ML_RX       pins: 16 times the port (A is 0) and the number; PC6 is 0x26
 *   ML_PIN_FUNCTION    number of the pins' alternate function */
#ifndef ML_STM32_H
#define ML_STM32_H

#include "port.h"
#include "registers.h"

#if defined(STM32_USART_V2)
#define USART_CTRL 0x00u
#define USART_BRR 0x0Cu
#define USART_STATUS 0x1Cu
#define USART_RX_DATA 0x24u
#define USART_TX_DATA 0x28u
#define USART_ENABLE (1u << 0 | 1u << 2 | 1u << 3) /* all, receiver, transmitter */
#define USART_CLEAR 0x20u
#else
#define USART_STATUS 0x00u
#define USART_RX_DATA 0x04u
#define USART_TX_DATA 0x04u
#define USART_BRR 0x08u
#define USART_CTRL 0x0Cu
#define USART_ENABLE (1u << 13 | 1u << 2 | 1u << 3)
#endif
#define USART(offset) ML_REGISTER(STM32_USART + (offset))
#define USART_OVERRUN (1u << 3)
#define USART_RX_FULL (1u << 5)
#define USART_TX_EMPTY (1u << 7)

/* Switches clocks of peripherals on, which are there after the read (errata of many families). */
static inline void stm32_enable(volatile uint32_t *address, uint32_t bits) {
    *address |= bits;
    (void)*address;
}

/* An overrun blocks the receiver of later families until it is cleared; in the first ones reading does that. */
int32_t ml_port_read(void) {
    const uint32_t status = USART(USART_STATUS);
#if defined(STM32_USART_V2)
    if (status & USART_OVERRUN) USART(USART_CLEAR) = USART_OVERRUN;
#endif
    return (status & USART_RX_FULL) ? (int32_t)(USART(USART_RX_DATA) & 0xFFu) : -1;
}

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (!(USART(USART_STATUS) & USART_TX_EMPTY)) {
        }
        USART(USART_TX_DATA) = bytes[i];
    }
}

static inline void stm32_serial_init(uint32_t divider) {
    USART(USART_BRR) = divider;
    USART(USART_CTRL) = USART_ENABLE;
}

#if defined(STM32_GPIO)
#define PORT(pin, offset) ML_REGISTER(STM32_GPIO + 0x400u * ((pin) >> 4) + (offset))
#define PORT_MODE 0x00u
#define PORT_PULL 0x0Cu
#define PORT_FUNCTION(pin) (0x20u + 4u * ((pin) >> 3 & 1u))

/* Gives a pin to a peripheral, and pulls it up: an open line is silent. Its port has a clock already. */
static inline void stm32_pin(uint32_t pin, uint32_t function) {
    const uint32_t twice = (pin & 15u) * 2u, four = (pin & 7u) * 4u;
    PORT(pin, PORT_FUNCTION(pin)) = (PORT(pin, PORT_FUNCTION(pin)) & ~(15u << four)) | function << four;
    PORT(pin, PORT_PULL) = (PORT(pin, PORT_PULL) & ~(3u << twice)) | 1u << twice;
    PORT(pin, PORT_MODE) = (PORT(pin, PORT_MODE) & ~(3u << twice)) | 2u << twice;
}

static inline void stm32_pins_init(void) {
    stm32_pin(ML_TX, ML_PIN_FUNCTION);
    stm32_pin(ML_RX, ML_PIN_FUNCTION);
}
#endif

#if defined(STM32_TIMER)
#define TIMER_CTRL ML_REGISTER(STM32_TIMER + 0x00u)
#define TIMER_EVENT ML_REGISTER(STM32_TIMER + 0x14u)
#define TIMER_COUNT ML_REGISTER(STM32_TIMER + 0x24u)
#define TIMER_PRESCALER ML_REGISTER(STM32_TIMER + 0x28u)
#define TIMER_RELOAD ML_REGISTER(STM32_TIMER + 0x2Cu)
#if !defined(ML_TICK_DIVIDER)
#define ML_TICK_DIVIDER 1u /* emulated timers may run at another clock */
#endif

/* A timer of 32 bits that has its clock already. */
static inline void stm32_counter_init(void) {
    TIMER_PRESCALER = ML_TICK_DIVIDER - 1u;
    TIMER_RELOAD = UINT32_MAX;
    TIMER_EVENT = 1; /* loads the prescaler */
    TIMER_CTRL = 1;
}

uint32_t ml_port_ticks(void) { return TIMER_COUNT; }
#endif

#endif
