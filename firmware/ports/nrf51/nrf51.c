/* Nordic nRF51822 (Reference Manual 3.0) on the BBC micro:bit V1, whose interface chip bridges the UART to USB. */
#include "port.h"
#include "registers.h"

#define CLOCK_TASKS_HFCLKSTART ML_REGISTER(0x40000000u)
#define CLOCK_EVENTS_HFCLKSTARTED ML_REGISTER(0x40000100u)

#define UART_TASKS_STARTRX ML_REGISTER(0x40002000u)
#define UART_TASKS_STARTTX ML_REGISTER(0x40002008u)
#define UART_EVENTS_RXDRDY ML_REGISTER(0x40002108u)
#define UART_EVENTS_TXDRDY ML_REGISTER(0x4000211Cu)
#define UART_ENABLE ML_REGISTER(0x40002500u)
#define UART_PSELTXD ML_REGISTER(0x4000250Cu)
#define UART_PSELRXD ML_REGISTER(0x40002514u)
#define UART_RXD ML_REGISTER(0x40002518u)
#define UART_TXD ML_REGISTER(0x4000251Cu)
#define UART_BAUDRATE ML_REGISTER(0x40002524u)
#define UART_ENABLE_ENABLED 4u

#define TIMER_TASKS_START ML_REGISTER(0x40008000u)
#define TIMER_TASKS_CAPTURE0 ML_REGISTER(0x40008040u)
#define TIMER_MODE ML_REGISTER(0x40008504u)
#define TIMER_BITMODE ML_REGISTER(0x40008508u)
#define TIMER_PRESCALER ML_REGISTER(0x40008510u)
#define TIMER_CC0 ML_REGISTER(0x40008540u)
#define TIMER_BITMODE_32 3u

/* BAUDRATE is a fraction of 16 MHz in 1/2^32, of which the chip looks at the upper 20 bits. */
#define BAUD_FACTOR ((uint32_t)((((uint64_t)ML_BAUD << 32) / 16000000u + 0x800u) & 0xFFFFF000u))

void ml_port_init(void) {
    CLOCK_TASKS_HFCLKSTART = 1; /* the crystal: the RC oscillator is too far off for 115200 baud */
    while (!CLOCK_EVENTS_HFCLKSTARTED) {
    }
    UART_PSELTXD = 24;
    UART_PSELRXD = 25;
    UART_BAUDRATE = BAUD_FACTOR;
    UART_ENABLE = UART_ENABLE_ENABLED;
    UART_TASKS_STARTRX = 1;
    UART_TASKS_STARTTX = 1;
    TIMER_MODE = 0;
    TIMER_BITMODE = TIMER_BITMODE_32;
    TIMER_PRESCALER = 0; /* 16 MHz */
    TIMER_TASKS_START = 1;
}

int32_t ml_port_read(void) {
    if (!UART_EVENTS_RXDRDY) {
        return -1;
    }
    UART_EVENTS_RXDRDY = 0; /* before the read: reading moves the next byte up, which sets it again */
    return (int32_t)(UART_RXD & 0xFFu);
}

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        UART_EVENTS_TXDRDY = 0;
        UART_TXD = bytes[i];
        while (!UART_EVENTS_TXDRDY) {
        }
    }
}

uint32_t ml_port_ticks(void) {
    TIMER_TASKS_CAPTURE0 = 1;
    return TIMER_CC0;
}
