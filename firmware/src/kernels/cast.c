/* CAST: the same numbers in another type. Integers keep their lower bits; what a bool is made of is compared with 0. */
#include "elements.h"
#include "ml_kernels.h"

/* Size of an element; 0 for a type that is none of an integer or a bool. */
static uint32_t size_of(uint32_t dtype) {
    switch (dtype) {
    case ML_S8:
    case ML_U8:
    case ML_BOOL: return 1;
    case ML_S16:
    case ML_U16: return 2;
    case ML_S32:
    case ML_U32: return 4;
    case ML_S64:
    case ML_U64: return 8;
    default: return 0;
    }
}

/* Numbers of uint64 keep their bits. */
static int64_t load(const void *data, uint32_t dtype, uint32_t i) {
    switch (dtype) {
    case ML_S8: return ((const int8_t *)data)[i];
    case ML_U8: return ((const uint8_t *)data)[i];
    case ML_BOOL: return ((const uint8_t *)data)[i] != 0;
    case ML_S16: return ((const int16_t *)data)[i];
    case ML_U16: return ((const uint16_t *)data)[i];
    case ML_S32: return ((const int32_t *)data)[i];
    case ML_U32: return ((const uint32_t *)data)[i];
    default: return ((const int64_t *)data)[i];
    }
}

static void store(void *data, uint32_t dtype, uint32_t i, int64_t value) {
    switch (size_of(dtype)) {
    case 1: ((uint8_t *)data)[i] = (uint8_t)(dtype == ML_BOOL ? value != 0 : value); break;
    case 2: ((uint16_t *)data)[i] = (uint16_t)value; break;
    case 4: ((uint32_t *)data)[i] = (uint32_t)value; break;
    default: ((int64_t *)data)[i] = value; break;
    }
}

ml_status ml_cast_integer_check(const void *args, const ml_operand *operands) {
    const ml_cast_integer_args *a = args;
    uint32_t input_bytes = size_of(a->input_type);
    uint32_t output_bytes = size_of(a->output_type);
    if (input_bytes == 0 || output_bytes == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits =
        ml_holds_aligned(&operands[0], input_bytes, a->count) && ml_holds_aligned(&operands[1], output_bytes, a->count);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_cast_integer(const void *args, void *const *operands) {
    const ml_cast_integer_args *a = args;
    for (uint32_t i = 0; i < a->count; i++) {
        store(operands[1], a->output_type, i, load(operands[0], a->input_type, i) + a->offset);
    }
    return 0;
}

static ml_status check_float(const void *args, const ml_operand *integers, const ml_operand *floats) {
    const ml_cast_float_args *a = args;
    uint32_t bytes = size_of(a->type);
    if (bytes == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds_aligned(integers, bytes, a->count) && ml_holds(floats, 4, a->count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_cast_to_f32_check(const void *args, const ml_operand *operands) {
    return check_float(args, &operands[0], &operands[1]);
}

int32_t ml_cast_to_f32(const void *args, void *const *operands) {
    const ml_cast_float_args *a = args;
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        int64_t value = load(operands[0], a->type, i) + a->offset;
        output[i] = a->type == ML_U64 ? (float)(uint64_t)value : (float)value;
    }
    return 0;
}

ml_status ml_cast_from_f32_check(const void *args, const ml_operand *operands) {
    return check_float(args, &operands[1], &operands[0]);
}

/* Towards zero. Beyond `limit`, a power of two, the number nearest to it; 0 for what is no number. */
static int64_t truncate(float x, float limit, int64_t most) {
    if (x >= limit) {
        return most;
    }
    if (x < -limit) {
        return -most - 1;
    }
    return x == x ? (int64_t)x : 0;
}

int32_t ml_cast_from_f32(const void *args, void *const *operands) {
    const ml_cast_float_args *a = args;
    const float *input = operands[0];
    const bool wide = size_of(a->type) == 8 || a->type == ML_U32;
    for (uint32_t i = 0; i < a->count; i++) {
        float x = input[i];
        int64_t value = wide ? truncate(x, 0x1p63f, INT64_MAX) : truncate(x, 0x1p31f, INT32_MAX);
        if (a->type == ML_BOOL) {
            value = x != 0.0f;
        } else if (a->type == ML_U64 && x >= 0x1p63f) {
            value = x < 0x1p64f ? (int64_t)(uint64_t)x : -1;
        }
        store(operands[1], a->type, i, value + a->offset);
    }
    return 0;
}
