/* Counting bits. */
#ifndef ML_BITS_H
#define ML_BITS_H

#include "kernel.h"

/* How many bits `x` takes: 0 for 0, else 1 + the position of the highest one. */
static inline uint32_t ml_bit_width(uint32_t x) { return x == 0 ? 0 : 32u - (uint32_t)__builtin_clz(x); }

#endif
