/* SELECT and SELECT_V2: output = condition ? a : b, of elements of 1, 2, 4 or 8 bytes. */
#include "ml_kernels.h"
#include "walk.h"

#define CONDITION 0u

/* The same loop for each size of an element. */
#define EACH(type)                                                                        \
    do {                                                                                  \
        const type *a = row->in[1], *b = row->in[2];                                      \
        type *out = row->out;                                                             \
        for (uint32_t i = 0; i < row->count; i++, a += row->step[1], b += row->step[2]) { \
            out[i] = condition[i * row->step[CONDITION]] != 0 ? *a : *b;                  \
        }                                                                                 \
    } while (0)

static void select_row(const void *args, const ml_row *row) {
    const ml_select_args *p = args;
    const uint8_t *condition = row->in[CONDITION];
    switch (p->bytes) {
    case 1: EACH(uint8_t); break;
    case 2: EACH(uint16_t); break;
    case 4: EACH(uint32_t); break;
    default: EACH(uint64_t); break;
    }
}

ml_status ml_select_check(const void *args, const ml_operand *operands) {
    const ml_select_args *a = args;
    uint32_t bytes = a->bytes;
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) {
        return ML_ERR_ARGUMENT;
    }
    const uint8_t sizes[] = {1, (uint8_t)bytes, (uint8_t)bytes, (uint8_t)bytes};
    if (((operands[1].ref | operands[2].ref | operands[3].ref) & (bytes - 1u)) != 0) {
        return ML_ERR_OPERAND;
    }
    return ml_walk_check(a->shape, 3, sizes, operands);
}

int32_t ml_select(const void *args, void *const *operands) {
    const ml_select_args *a = args;
    const uint8_t bytes = (uint8_t)a->bytes;
    const uint8_t sizes[] = {1, bytes, bytes, bytes};
    ml_walk(a->shape, 3, sizes, args, operands, select_row);
    return 0;
}
