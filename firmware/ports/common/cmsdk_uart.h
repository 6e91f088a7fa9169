/* The UART of Arm's Cortex-M System Design Kit (DDI 0479, section 4.3), for ports of Arm's FPGA boards. The port
 * defines CMSDK_UART, the address of the UART, before it includes this file. */
#ifndef ML_CMSDK_UART_H
#define ML_CMSDK_UART_H

#include "port.h"
#include "registers.h"

#define UART_DATA ML_REGISTER(CMSDK_UART + 0x00)
#define UART_STATE ML_REGISTER(CMSDK_UART + 0x04)
#define UART_CTRL ML_REGISTER(CMSDK_UART + 0x08)
#define UART_BAUDDIV ML_REGISTER(CMSDK_UART + 0x10)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_ENABLE 1u
#define CTRL_RX_ENABLE 2u

_Static_assert(ML_CLOCK_HZ / ML_BAUD >= 16u, "build.f_cpu: the UART stays silent with less than 16 clocks a bit");

static inline void cmsdk_uart_init(void) {
    UART_BAUDDIV = ML_CLOCK_HZ / ML_BAUD;
    UART_CTRL = CTRL_TX_ENABLE | CTRL_RX_ENABLE;
}

int32_t ml_port_read(void) { return (UART_STATE & STATE_RX_FULL) ? (int32_t)(UART_DATA & 0xFFu) : -1; }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (UART_STATE & STATE_TX_FULL) {
        }
        UART_DATA = bytes[i];
    }
}

#endif
