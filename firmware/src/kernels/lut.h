/* Table lookup with interpolation, for functions of int16. */
#ifndef ML_LUT_H
#define ML_LUT_H

#include <stdint.h>

#define ML_LUT_S16_ENTRIES 513u

/* The upper 9 bits of `x` choose the entry, the lower 7 interpolate to the next (TensorFlow Lite's LUTLookup). */
static inline int16_t ml_lut_s16(int16_t x, const int16_t *table) {
    const int16_t *entry = table + 256 + (x >> 7);
    int16_t slope = (int16_t)(entry[1] - entry[0]);
    return (int16_t)(entry[0] + ((slope * (x & 127) + 64) >> 7));
}

#endif
