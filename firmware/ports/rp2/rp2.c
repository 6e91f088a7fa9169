/* Raspberry Pi RP2040 (datasheet of 2024-10) and RP2350 on its Arm cores (datasheet of 2024-10): the same peripherals
 * at other addresses. Crystal of 12 MHz; serial line: UART0 on GP0 (TX) and GP1 (RX). */
#include "systick.h"
#include "wait.h"

#if defined(__ARM_ARCH_6M__)
#define CLOCKS 0x40008000u
#define RESETS 0x4000C000u
#define PSM 0x40010000u
#define IO_BANK0 0x40014000u
#define PADS_BANK0 0x4001C000u
#define XOSC 0x40024000u
#define PLL_SYS 0x40028000u
#define UART0 0x40034000u
#define WATCHDOG 0x40058000u
#define RESETS_USED (1u << 5 | 1u << 8 | 1u << 12 | 1u << 22) /* IO_BANK0, PADS_BANK0, PLL_SYS, UART0 */
#define PSM_ALL_BUT_OSCILLATORS 0x0001FFFCu
#else
#define CLOCKS 0x40010000u
#define PSM 0x40018000u
#define RESETS 0x40020000u
#define IO_BANK0 0x40028000u
#define PADS_BANK0 0x40038000u
#define XOSC 0x40048000u
#define PLL_SYS 0x40050000u
#define UART0 0x40070000u
#define WATCHDOG 0x400D8000u
#define RESETS_USED (1u << 6 | 1u << 9 | 1u << 14 | 1u << 26)
#define PSM_ALL_BUT_OSCILLATORS 0x01FFFFF3u
#endif

/* Writing at these distances from a register sets or clears the bits that are 1. */
#define SET 0x2000u
#define CLEAR 0x3000u

#define RESETS_DONE ML_REGISTER(RESETS + 0x08u)

#define CLK_REF_CTRL ML_REGISTER(CLOCKS + 0x30u)
#define CLK_REF_SELECTED ML_REGISTER(CLOCKS + 0x38u)
#define CLK_SYS_CTRL ML_REGISTER(CLOCKS + 0x3Cu)
#define CLK_SYS_SELECTED ML_REGISTER(CLOCKS + 0x44u)
#define CLK_PERI_CTRL ML_REGISTER(CLOCKS + 0x48u)
#define CLK_REF_XOSC 2u
#define CLK_SYS_PLL 1u /* with its other source, which is PLL_SYS after a reset */
#define CLK_PERI_ENABLE (1u << 11)

#define XOSC_CTRL ML_REGISTER(XOSC + 0x00u)
#define XOSC_STATUS ML_REGISTER(XOSC + 0x04u)
#define XOSC_STARTUP ML_REGISTER(XOSC + 0x0Cu)
#define XOSC_ENABLE_1_15_MHZ 0x00FABAA0u
#define XOSC_STABLE (1u << 31)
#define XOSC_HZ 12000000u

#define PLL_CS ML_REGISTER(PLL_SYS + 0x00u)
#define PLL_PWR ML_REGISTER(PLL_SYS + 0x04u)
#define PLL_FBDIV ML_REGISTER(PLL_SYS + 0x08u)
#define PLL_PRIM ML_REGISTER(PLL_SYS + 0x0Cu)
#define PLL_LOCK (1u << 31)
#define PLL_POWER_DOWN 0x21u /* of the whole and of its oscillator */
#define PLL_POSTDIV_DOWN 0x08u
#define PLL_VCO_HZ 1500000000u
#define PLL_POSTDIV1 (PLL_VCO_HZ / ML_CLOCK_HZ / 2u)
#define PLL_POSTDIV2 2u
_Static_assert(ML_CLOCK_HZ == 125000000u || ML_CLOCK_HZ == 150000000u, "build.f_cpu: 125 or 150 MHz");

#define UART_DATA ML_REGISTER(UART0 + 0x00u)
#define UART_FLAGS ML_REGISTER(UART0 + 0x18u)
#define UART_IBRD ML_REGISTER(UART0 + 0x24u)
#define UART_FBRD ML_REGISTER(UART0 + 0x28u)
#define UART_LCR ML_REGISTER(UART0 + 0x2Cu)
#define UART_CTRL ML_REGISTER(UART0 + 0x30u)
#define UART_RX_EMPTY (1u << 4)
#define UART_TX_FULL (1u << 5)
#define UART_8N1_FIFO 0x70u
#define UART_ENABLE 0x301u /* receiver, transmitter, all */
#define UART_DIVIDER ((4u * ML_CLOCK_HZ + ML_BAUD / 2u) / ML_BAUD) /* in 1/64 of 16 times the baud rate */

#define PAD(pin) ML_REGISTER(PADS_BANK0 + 4u + 4u * (pin))
#define PIN_FUNCTION(pin) ML_REGISTER(IO_BANK0 + 4u + 8u * (pin))
#define PAD_INPUT_PULL_UP_4MA 0x5Au /* with Schmitt trigger; not isolated (RP2350) */
#define FUNCTION_UART 2u

#define WATCHDOG_CTRL ML_REGISTER(WATCHDOG)
#define WATCHDOG_TRIGGER (1u << 31)

/* A crystal or PLL that does not start leaves the core on the slow ring oscillator: no reason to hang. */
static void clock_init(void) {
    XOSC_STARTUP = XOSC_HZ / 1000u / 256u + 1u; /* 1 ms, in 256 of its cycles */
    XOSC_CTRL = XOSC_ENABLE_1_15_MHZ;
    if (!ml_wait_for(&XOSC_STATUS, XOSC_STABLE)) return;
    CLK_REF_CTRL = CLK_REF_XOSC;
    ml_wait_for(&CLK_REF_SELECTED, 1u << CLK_REF_XOSC);
    PLL_CS = 1; /* divider of the crystal's clock */
    PLL_FBDIV = PLL_VCO_HZ / XOSC_HZ;
    ML_REGISTER(PLL_SYS + 0x04u + CLEAR) = PLL_POWER_DOWN;
    if (!ml_wait_for(&PLL_CS, PLL_LOCK)) return;
    PLL_PRIM = PLL_POSTDIV1 << 16 | PLL_POSTDIV2 << 12;
    ML_REGISTER(PLL_SYS + 0x04u + CLEAR) = PLL_POSTDIV_DOWN;
    CLK_SYS_CTRL = CLK_SYS_PLL;
    ml_wait_for(&CLK_SYS_SELECTED, 1u << CLK_SYS_PLL);
}

static void serial_init(void) {
    CLK_PERI_CTRL = CLK_PERI_ENABLE; /* the core's clock */
    PAD(0) = PAD_INPUT_PULL_UP_4MA;
    PAD(1) = PAD_INPUT_PULL_UP_4MA; /* an open line is silent */
    PIN_FUNCTION(0) = FUNCTION_UART;
    PIN_FUNCTION(1) = FUNCTION_UART;
    UART_IBRD = UART_DIVIDER / 64u;
    UART_FBRD = UART_DIVIDER % 64u;
    UART_LCR = UART_8N1_FIFO;
    UART_CTRL = UART_ENABLE;
}

void ml_port_init(void) {
    ML_REGISTER(RESETS + CLEAR) = RESETS_USED;
    ml_wait_for(&RESETS_DONE, RESETS_USED);
    clock_init();
    serial_init();
    systick_init();
}

int32_t ml_port_read(void) { return (UART_FLAGS & UART_RX_EMPTY) ? -1 : (int32_t)(UART_DATA & 0xFFu); }

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (UART_FLAGS & UART_TX_FULL) {
        }
        UART_DATA = bytes[i];
    }
}

/* The core's own reset would leave the clocks and the flash interface as they are; this goes back to the boot ROM. */
_Noreturn void ml_port_reset(void) {
    ML_REGISTER(PSM + 0x08u + SET) = PSM_ALL_BUT_OSCILLATORS;
    ML_REGISTER(WATCHDOG + SET) = WATCHDOG_TRIGGER;
    for (;;) { /* takes effect a few cycles later */
    }
}
