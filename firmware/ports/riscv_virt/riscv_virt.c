/* QEMU's RISC-V machine `virt`: an NS16550A serial port, and a counter of instructions.
 * The machine has one memory. Its first part stands in for a microcontroller's flash: physical memory protection lets
 * nobody write there, so that a stack that overflows into it faults. */
#include "port.h"
#include "registers.h"
#include "riscv.h"

#define UART_DATA (*(volatile uint8_t *)0x10000000u)
#define UART_LINE_STATE (*(volatile uint8_t *)0x10000005u)
#define LINE_HAS_DATA 0x01u
#define LINE_TX_EMPTY 0x20u
#define TEST_DEVICE ML_REGISTER(0x00100000u)
#define TEST_RESET 0x7777u
#define PMP_LOCKED_NAPOT_RX 0x9Du /* a naturally aligned power of two; to be read and executed */

extern uint8_t ml_flash_start[], ml_flash_end[];

int32_t ml_port_read(void) { return (UART_LINE_STATE & LINE_HAS_DATA) ? (int32_t)UART_DATA : -1; }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (!(UART_LINE_STATE & LINE_TX_EMPTY)) {
        }
        UART_DATA = bytes[i];
    }
}

/* The emulator's cycle counter advances by 128 an instruction (-icount shift=7). */
uint32_t ml_port_ticks(void) {
    uint32_t low, high, again;
    do {
        READ_CSR("mcycleh", high);
        READ_CSR("mcycle", low);
        READ_CSR("mcycleh", again);
    } while (high != again);
    return high << 25 | low >> 7;
}

_Noreturn void ml_port_reset(void) {
    TEST_DEVICE = TEST_RESET;
    for (;;) { /* takes effect a few instructions later */
    }
}

static void protect_flash(void) {
    const uint32_t start = (uint32_t)(uintptr_t)ml_flash_start, bytes = (uint32_t)(ml_flash_end - ml_flash_start);
    WRITE_CSR("pmpaddr0", start >> 2 | (bytes / 2u - 1u) >> 2);
    WRITE_CSR("pmpcfg0", PMP_LOCKED_NAPOT_RX);
}

void ml_port_init(void) { protect_flash(); }
