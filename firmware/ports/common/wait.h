/* Waiting for hardware that may never be ready: a crystal that is not fitted, a clock that an emulator does not have.
 */
#ifndef ML_WAIT_H
#define ML_WAIT_H

#include <stdint.h>

/* Reads of a register: at least 30 ms at 16 MHz, where crystals take 2 and PLLs less than 1. */
#define ML_PATIENCE 100000u

/* Whether all of `bits` become 1. */
static inline uint32_t ml_wait_for(const volatile uint32_t *address, uint32_t bits) {
    for (uint32_t i = 0; i < ML_PATIENCE; i++) {
        if ((*address & bits) == bits) return 1;
    }
    return 0;
}

#endif
