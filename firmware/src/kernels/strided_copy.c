/* strided_copy: for all i: to[sum(i * to_step)] = from[from_start + sum(i * from_step)], `run` contiguous bytes each.
 * Steps are in bytes; a step of 0 in `from` repeats, a negative one reverses. Nearly every operator that only moves
 * data is one or a few of these. */
#include <string.h>

#include "ml_kernels.h"

#define LOOPS 5
#define STARTS 6

/* The core's own words, wherever they lie and whatever wrote them. */
typedef uint16_t __attribute__((may_alias)) half;
typedef uint32_t __attribute__((may_alias)) word;

/* Whether the copy lies in both operands, with `to` starting anywhere up to `to_start`. */
static ml_status check_copy(const ml_strided_copy_args *a, const ml_operand *from, const ml_operand *to,
                            uint32_t to_start) {
    uint64_t moved = a->run;
    uint64_t to_end = (uint64_t)to_start + a->run;
    int64_t low = a->from_start;
    int64_t high = low + a->run;
    if (a->run == 0 || a->run > to->bytes) {
        return ML_ERR_ARGUMENT;
    }
    for (uint32_t i = 0; i < LOOPS; i++) {
        if (a->count[i] == 1) {
            continue;
        }
        moved *= a->count[i];
        /* Nothing is written twice, so this bounds the time; it bounds the sums below as well. */
        if (moved == 0 || moved > to->bytes) {
            return ML_ERR_ARGUMENT;
        }
        int64_t turns = a->count[i] - 1u;
        to_end += (uint64_t)turns * a->to_step[i];
        low += turns * ML_MIN(a->from_step[i], 0);
        high += turns * ML_MAX(a->from_step[i], 0);
    }
    return low >= 0 && high <= from->bytes && to_end <= to->bytes ? ML_OK : ML_ERR_OPERAND;
}

ml_status ml_strided_copy_check(const void *args, const ml_operand *operands) {
    return check_copy(args, &operands[0], &operands[1], 0);
}

/* The innermost loop. Runs of one element move through a register, longer ones through memmove. */
static void copy_row(uint8_t *to, const uint8_t *from, uint32_t count, uint32_t run, uint32_t to_step,
                     int32_t from_step) {
    uint32_t loose = (uint32_t)(uintptr_t)to | (uint32_t)(uintptr_t)from | to_step | (uint32_t)from_step;
    if (run == 1 && to_step == 1 && from_step == 0) {
        memset(to, *from, count);
    } else if (run == 1) {
        for (; count != 0; count--, to += to_step, from += from_step) *to = *from;
    } else if (run == 2 && (loose & 1u) == 0) {
        for (; count != 0; count--, to += to_step, from += from_step)
            *(half *)(void *)to = *(const half *)(const void *)from;
    } else if (run == 4 && (loose & 3u) == 0) {
        for (; count != 0; count--, to += to_step, from += from_step)
            *(word *)(void *)to = *(const word *)(const void *)from;
    } else {
        for (; count != 0; count--, to += to_step, from += from_step) memmove(to, from, run);
    }
}

static void copy(const ml_strided_copy_args *a, const uint8_t *from, uint8_t *to) {
    uint32_t index[LOOPS] = {0};
    uint32_t from_at = a->from_start;
    uint32_t to_at = 0;
    for (;;) {
        copy_row(to + to_at, from + from_at, a->count[LOOPS - 1], a->run, a->to_step[LOOPS - 1],
                 a->from_step[LOOPS - 1]);
        /* Counts up like an odometer: the last outer index first, with a carry into the one before it. */
        uint32_t i = LOOPS - 1;
        do {
            if (i == 0) {
                return;
            }
            i--;
            bool carry = ++index[i] == a->count[i];
            uint32_t turns = carry ? 1u - a->count[i] : 1u;
            index[i] = carry ? 0 : index[i];
            to_at += turns * a->to_step[i];
            from_at += turns * (uint32_t)a->from_step[i];
        } while (index[i] == 0);
    }
}

int32_t ml_strided_copy(const void *args, void *const *operands) {
    copy(args, operands[0], operands[1]);
    return 0;
}

/* strided_copy_at: the same to a place that the model computes: to[sum(clamp(starts[d], 0, limit[d]) * start_step[d])]
 * on. Starts are int32 or, with 2 index words, int64. */
ml_status ml_strided_copy_at_check(const void *args, const ml_operand *operands) {
    const ml_strided_copy_at_args *a = args;
    if (a->rank > STARTS || a->index_words < 1 || a->index_words > 2) {
        return ML_ERR_ARGUMENT;
    }
    uint64_t furthest = 0;
    for (uint32_t d = 0; d < a->rank; d++) {
        furthest += (uint64_t)a->limit[d] * a->start_step[d];
        if (a->limit[d] > INT32_MAX || furthest > operands[2].bytes) {
            return ML_ERR_ARGUMENT;
        }
    }
    if (!ml_holds(&operands[1], 4 * a->index_words, a->rank, 1, 1, 1)) {
        return ML_ERR_OPERAND;
    }
    return check_copy((const ml_strided_copy_args *)args, &operands[0], &operands[2], (uint32_t)furthest);
}

int32_t ml_strided_copy_at(const void *args, void *const *operands) {
    const ml_strided_copy_at_args *a = args;
    const int32_t *start = operands[1];
    uint8_t *to = operands[2];
    for (uint32_t d = 0; d < a->rank; d++, start += a->index_words) {
        int32_t high = start[a->index_words - 1u]; /* has the sign */
        uint32_t place = high < 0 ? 0 : a->index_words == 2 && high > 0 ? a->limit[d] : (uint32_t)start[0];
        to += ML_MIN(place, a->limit[d]) * a->start_step[d];
    }
    copy((const ml_strided_copy_args *)args, operands[0], to);
    return 0;
}
