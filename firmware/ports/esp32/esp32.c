/* Espressif ESP32, ESP32-S3 and ESP32-C3: the serial line UART0 on the pins that the ROM uses for it, and the core's
 * cycle counter. */
#include <stdbool.h>

#include "chip.h"
#include "port.h"

#if defined(ML_ESP32C3)
#include "riscv.h"

/* Below the stack lies the RAM that the core has begun in: 8 KB, locked for good, so that a stack that overflows
 * faults. On the other chips nothing lies there. */
static void guard_stack(void) {
    WRITE_CSR("pmpaddr0", 0x3FC80000u >> 2 | (0x2000u / 2u - 1u) >> 2);
    WRITE_CSR("pmpcfg0", 0x98u); /* a naturally aligned power of two; no access */
}
#else
static void guard_stack(void) {}
#endif

static void serial_init(void) {
#if !defined(ML_ESP32)
    UART_CLK_CONF = (UART_CLK_CONF & ~0x003FFFFFu) | 3u << 20; /* the crystal, undivided: no clock switch changes it */
#endif
    const uint32_t sixteenths = (uint32_t)((16ull * UART_SCLK_HZ + ML_BAUD / 2u) / ML_BAUD);
    UART_CLKDIV = sixteenths >> 4 | (sixteenths & 15u) << 20;
#if !defined(ML_ESP32)
    UART_UPDATE |= 1u << 31;
#endif
}

void ml_port_init(void) {
    guard_stack();
    serial_init();
}

static bool received(void) {
#if defined(ML_ESP32)
    /* The count of bytes may be wrong where they are read at this address: both ends of the queue are not. Those are
     * the same when it is empty or full. */
    const uint32_t ends = ML_REGISTER(UART + 0x60u);
    if ((ends >> 2 & 0x7FFu) != (ends >> 13 & 0x7FFu)) return true;
#endif
    return (UART_STATUS & UART_COUNT_MASK) != 0;
}

int32_t ml_port_read(void) {
    if (received()) return (int32_t)(UART_FIFO_READ & 0xFFu);
    esp_wait_us(1); /* a core that did nothing but look would take the bus from all others */
    return -1;
}

static uint32_t unsent(void) { return UART_STATUS >> 16 & UART_COUNT_MASK; }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (unsent() >= UART_FIFO_BYTES - 2u) {
        }
        UART_FIFO_WRITE = bytes[i];
    }
}

uint32_t ml_port_ticks(void) { return esp_cycles(); }

_Noreturn void ml_port_reset(void) {
    while (unsent()) {
    }
    esp_wait_us(20000000u / ML_BAUD); /* the last byte is on the line */
#if defined(ML_ESP32)
    RTC_CLK_CONF &= ~(3u << 27); /* the ROM expects the crystal; the other chips' reset sees to that */
#endif
    RTC_OPTIONS |= OPTIONS_RESET;
    for (;;) { /* takes effect a few cycles later */
    }
}
