/* Arm MPS3 with the image AN547 (Cortex-M55 in a Corstone SSE-300): DAI 0547. The core runs in the secure state, so
 * that all addresses are the secure aliases. */
#define CMSDK_UART 0x59303000u
#include "cmsdk_uart.h"

/* The subsystem's 64-bit system counter, and the frame of system timer 0 that shows it (SSE-300 TRM 101773). */
#define COUNTER_CNTCR ML_REGISTER(0x58100000u)
#define TIMER0_CNTPCT_LOW ML_REGISTER(0x58000000u)
#define CNTCR_ENABLE 1u

void ml_port_init(void) {
    cmsdk_uart_init();
    COUNTER_CNTCR = CNTCR_ENABLE;
}

uint32_t ml_port_ticks(void) { return TIMER0_CNTPCT_LOW; }
