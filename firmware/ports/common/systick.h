/* A 32-bit counter of the core's clock made of SysTick, which every Cortex-M has, but with 24 bits: for ports of chips
 * with nothing better. The interrupt that counts its turns comes once in 2^24 cycles. */
#ifndef ML_SYSTICK_H
#define ML_SYSTICK_H

#include "port.h"
#include "registers.h"

#define SYSTICK_CTRL ML_REGISTER(0xE000E010u)
#define SYSTICK_LOAD ML_REGISTER(0xE000E014u)
#define SYSTICK_VALUE ML_REGISTER(0xE000E018u)
#define SYSTICK_CTRL_RUN 7u /* core's clock, interrupt, enable */
#define SYSTICK_MASK 0x00FFFFFFu
#define SCB_ICSR ML_REGISTER(0xE000ED04u)
#define ICSR_SYSTICK_PENDS (1u << 26)

static volatile uint32_t systick_turns;

/* In the vector table; see cortex_m.c. */
void ml_on_systick(void);
void ml_on_systick(void) { systick_turns = systick_turns + 1u; }

static inline void systick_init(void) {
    SYSTICK_LOAD = SYSTICK_MASK;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = SYSTICK_CTRL_RUN;
}

/* SysTick counts down, and a turn ends when it reaches 0. Read again if a turn has ended meanwhile. */
uint32_t ml_port_ticks(void) {
    uint32_t turns, left;
    do {
        turns = systick_turns;
        left = SYSTICK_VALUE;
    } while ((SCB_ICSR & ICSR_SYSTICK_PENDS) || turns != systick_turns);
    return turns << 24 | ((0u - left) & SYSTICK_MASK);
}

#endif
