/* Arm MPS2 with the images AN385 (Cortex-M3), AN386 (M4) and AN500 (M7): DAI 0385, 0386, 0500. */
#define CMSDK_UART 0x40004000u
#include "cmsdk_uart.h"

/* CMSDK timer 0 (DDI 0479, section 4.4) counts the core's clock down from RELOAD. */
#define TIMER_CTRL ML_REGISTER(0x40000000u)
#define TIMER_VALUE ML_REGISTER(0x40000004u)
#define TIMER_RELOAD ML_REGISTER(0x40000008u)
#define CTRL_ENABLE 1u

void ml_port_init(void) {
    cmsdk_uart_init(ML_CLOCK_HZ, ML_BAUD);
    TIMER_RELOAD = UINT32_MAX;
    TIMER_VALUE = UINT32_MAX;
    TIMER_CTRL = CTRL_ENABLE;
}

uint32_t ml_port_ticks(void) { return ~TIMER_VALUE; }
