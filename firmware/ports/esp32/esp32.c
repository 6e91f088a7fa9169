/* Espressif ESP32, ESP32-S3 and ESP32-C3: the serial line UART0 on the pins that the ROM uses for it, the USB port of
 * the chips that have one, and the core's cycle counter. */
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
    /* The crystal, which no clock switch changes. Divided here: an emulator of the S3 knows no clock but of 1 MHz. */
    UART_CLK_CONF = (UART_CLK_CONF & ~0x003FFFFFu) | 3u << 20 | (UART_DIVISION - 1u) << 12;
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

static bool uart_received(void) {
#if defined(ML_ESP32)
    /* The count of bytes may be wrong where they are read at this address: both ends of the queue are not. Those are
     * the same when it is empty or full. */
    const uint32_t ends = ML_REGISTER(UART + 0x60u);
    if ((ends >> 2 & 0x7FFu) != (ends >> 13 & 0x7FFu)) return true;
#endif
    return (UART_STATUS & UART_COUNT_MASK) != 0;
}

#if defined(USB_SERIAL)

#define USB_DATA ML_REGISTER(USB_SERIAL)
#define USB_STATE ML_REGISTER(USB_SERIAL + 4u)
#define USB_SEND 1u
#define USB_HAS_ROOM 2u
#define USB_HAS_DATA 4u
#define USB_PATIENCE_US 50000u /* with a computer that does not read */

static bool on_usb; /* whether the last byte came from there: answers go to where requests come from */

static bool usb_received(void) { return (USB_STATE & USB_HAS_DATA) != 0; }

static bool usb_has_room(void) {
    for (uint32_t us = 0; us < USB_PATIENCE_US && !(USB_STATE & USB_HAS_ROOM); us++) {
        USB_STATE = USB_SEND;
        esp_wait_us(1);
    }
    return (USB_STATE & USB_HAS_ROOM) != 0;
}

static void usb_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count && usb_has_room(); i++) USB_DATA = bytes[i];
    USB_STATE = USB_SEND;
}

#endif

int32_t ml_port_read(void) {
    if (uart_received()) {
#if defined(USB_SERIAL)
        on_usb = false;
#endif
        return (int32_t)(UART_FIFO_READ & 0xFFu);
    }
#if defined(USB_SERIAL)
    if (usb_received()) {
        on_usb = true;
        return (int32_t)(USB_DATA & 0xFFu);
    }
#endif
    esp_wait_us(1); /* a core that did nothing but look would take the bus from all others */
    return -1;
}

static uint32_t unsent(void) { return UART_STATUS >> 16 & UART_COUNT_MASK; }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
#if defined(USB_SERIAL)
    if (on_usb) {
        usb_write(bytes, count);
        return;
    }
#endif
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
