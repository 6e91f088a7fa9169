/* Arm MPS2 with the images AN385 (Cortex-M3), AN386 (M4) and AN500 (M7): DAI 0385, 0386, 0500. */
#define CMSDK_UART 0x40004000u
#include "cmsdk_uart.h"

/* CMSDK timer 0 (DDI 0479, section 4.4) counts the core's clock down from RELOAD. */
#define TIMER_CTRL ML_REGISTER(0x40000000u)
#define TIMER_VALUE ML_REGISTER(0x40000004u)
#define TIMER_RELOAD ML_REGISTER(0x40000008u)
#define CTRL_ENABLE 1u

void ml_port_init(void) {
    cmsdk_uart_init();
    TIMER_RELOAD = UINT32_MAX;
    TIMER_VALUE = UINT32_MAX;
    TIMER_CTRL = CTRL_ENABLE;
}

uint32_t ml_port_ticks(void) { return ~TIMER_VALUE; }

#if defined(ML_PROGRAMS_BYTES)
/* The emulator keeps the board's PSRAM in a file: it stands in for flash, so that bits are set by erasing alone. */
void ml_port_flash_erase(uint32_t address) {
    for (uint32_t i = 0; i < ML_PROGRAMS_ERASE_BYTES; i += 4u) ML_REGISTER(address + i) = UINT32_MAX;
}

void ml_port_flash_write(uint32_t address, const uint8_t *bytes, uint32_t count) {
    const uint32_t *words = (const uint32_t *)(const void *)bytes;
    for (uint32_t i = 0; i < count / 4u; i++) ML_REGISTER(address + 4u * i) &= words[i];
}
#endif
