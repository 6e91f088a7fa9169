/* Nordic nRF51 (Reference Manual 3.0) and nRF52 (nRF52840 Product Specification 1.7), whose UART, timer and clock are
 * the same. A board's file says which pins the UART has: ML_TX and ML_RX, 32 times the port and the number. */
#include "port.h"
#include "registers.h"
#include "wait.h"

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

#define GPIO(pin, offset) ML_REGISTER(0x50000000u + 0x300u * ((pin) >> 5) + (offset))
#define GPIO_SET 0x508u
#define GPIO_MODE(pin) (0x700u + 4u * ((pin)&31u))
#define MODE_OUTPUT 3u /* whose input is not connected */
#define MODE_INPUT_PULL_UP 12u

#if __ARM_ARCH >= 7 /* nRF52 */
#define NVMC_ICACHE ML_REGISTER(0x4001E540u)
#define APPROTECT_DISABLE ML_REGISTER(0x40000558u)
#define APPROTECT_SOFTWARE_DISABLE 0x5Au
#endif

/* BAUDRATE is a fraction of 16 MHz in 1/2^32, of which the chip looks at the upper 20 bits. */
#define BAUD_FACTOR ((uint32_t)((((uint64_t)ML_BAUD << 32) / 16000000u + 0x800u) & 0xFFFFF000u))

/* Later nRF52840 lock the debug port at each reset until the firmware opens it (product specification, 4.8.2); it is
 * open afterwards if the flash says so too. */
static void core_init(void) {
#if __ARM_ARCH >= 7
    NVMC_ICACHE = 1;
    APPROTECT_DISABLE = APPROTECT_SOFTWARE_DISABLE;
#endif
}

static void serial_init(void) {
    GPIO(ML_TX, GPIO_SET) = 1u << (ML_TX & 31u);
    GPIO(ML_TX, GPIO_MODE(ML_TX)) = MODE_OUTPUT;
    GPIO(ML_RX, GPIO_MODE(ML_RX)) = MODE_INPUT_PULL_UP; /* an open line is silent */
    UART_PSELTXD = ML_TX;
    UART_PSELRXD = ML_RX;
    UART_BAUDRATE = BAUD_FACTOR;
    UART_ENABLE = UART_ENABLE_ENABLED;
    UART_TASKS_STARTRX = 1;
    UART_TASKS_STARTTX = 1;
}

/* A timer of 16 MHz, whatever the core's clock is. */
static void counter_init(void) {
    TIMER_MODE = 0;
    TIMER_BITMODE = TIMER_BITMODE_32;
    TIMER_PRESCALER = 0;
    TIMER_TASKS_START = 1;
}

void ml_port_init(void) {
    core_init();
    CLOCK_TASKS_HFCLKSTART = 1; /* the crystal: the RC oscillator is too far off for 115200 baud */
    ml_wait_for(&CLOCK_EVENTS_HFCLKSTARTED, 1);
    serial_init();
    counter_init();
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
