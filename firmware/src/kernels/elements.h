/* Reading and writing elements whose type is an argument: an ml_dtype, one of those that a kernel lists. */
#ifndef ML_ELEMENTS_H
#define ML_ELEMENTS_H

#include "kernel.h"

/* Whether `operand` holds `count` elements of `bytes` each and is aligned for them: for operands whose element size is
 * an argument, so that their slot claims no alignment. */
static inline bool ml_holds_aligned(const ml_operand *operand, uint32_t bytes, uint32_t count) {
    return (operand->ref & (bytes - 1u)) == 0 && ml_holds(operand, bytes, count, 1, 1, 1);
}

/* Size of an element of an integer type; 0 for another type. */
static inline uint32_t ml_integer_bytes(uint32_t dtype) {
    switch (dtype) {
    case ML_S8:
    case ML_U8: return 1;
    case ML_S16: return 2;
    case ML_S32: return 4;
    default: return 0;
    }
}

ML_INLINE int32_t ml_load_integer(const void *data, uint32_t dtype, uint32_t index) {
    switch (dtype) {
    case ML_S8: return ((const int8_t *)data)[index];
    case ML_U8: return ((const uint8_t *)data)[index];
    case ML_S16: return ((const int16_t *)data)[index];
    default: return ((const int32_t *)data)[index];
    }
}

ML_INLINE void ml_store_integer(void *data, uint32_t dtype, uint32_t index, int32_t value) {
    switch (dtype) {
    case ML_S8:
    case ML_U8: ((uint8_t *)data)[index] = (uint8_t)value; break;
    case ML_S16: ((int16_t *)data)[index] = (int16_t)value; break;
    default: ((int32_t *)data)[index] = value; break;
    }
}

#endif
