/* DEPTHWISE_CONV_2D, int8, kernels of 3x3, strides of 1 or 2: channel by channel, down one column of outputs after the
 * other. The nine weights stay in registers; each row of three inputs adds to all outputs that it has a part in. So
 * sums begin with what the rows above have added: `first` is the next output's, `second` the one's after that.
 *
 * What a column outside the image adds is part of the start value, and its weights are 0. With stride 1 the column left
 * of the middle one comes from a copy, as outputs may have been written over it: scratch has a byte for each row. */
#include "../window.h"
#include "rescale.h"

#define TAPS 9

/* What a program has for each channel. */
typedef struct record {
    ml_channel channel;
    int8_t weights[TAPS + 3];
} record;

/* Weights and start value are 4 times what they are in the program: see ml_rescaled. */
typedef struct channel {
    int32_t start, multiplier, offset, shift, weights[TAPS];
} channel;

static channel channel_of(const record *r) {
    channel c = {
        (int32_t)((uint32_t)r->channel.start << 2), r->channel.multiplier, r->channel.offset, r->channel.shift, {0}};
    for (uint32_t i = 0; i < TAPS; i++) {
        c.weights[i] = r->weights[i] * 4;
    }
    return c;
}

/* A column of outputs of one channel. */
typedef struct job {
    channel c;
    const int8_t *input; /* of the first row: the middle one of the three */
    int32_t row_bytes, left_bytes, right_bytes; /* to the next row, and to the others of the three */
    int8_t *copy, *output;
    int32_t output_row_bytes;
    uint32_t pad_top, input_height, output_height;
    int32_t padding;
} job;

/* The sums of the next two outputs. */
typedef struct partial {
    int32_t first, second;
} partial;

typedef struct inputs {
    int32_t left, middle, right;
} inputs;

ML_INLINE int32_t add_row(int32_t sum, const channel *c, uint32_t row, inputs x) {
    const int32_t *w = &c->weights[3u * row];
    return sum + x.left * w[0] + x.middle * w[1] + x.right * w[2];
}

/* A row that completes no output. With stride 2 each row has a part in one or two: the lowest of a window that of the
 * next window too. */
ML_INLINE partial begun(partial p, const channel *c, inputs x, uint32_t stride, bool lowest) {
    if (stride == 1) {
        return (partial){add_row(p.second, c, 1, x), add_row(c->start, c, 0, x)};
    }
    return lowest ? (partial){add_row(c->start, c, 0, x), 0} : (partial){add_row(p.first, c, 1, x), 0};
}

ML_INLINE int32_t output_of(const channel *c, int32_t sum, bool has_sign) {
    int32_t y = (int32_t)(((int64_t)sum * c->multiplier) >> 32) + c->offset;
    y = (y - (has_sign ? (int32_t)((uint32_t)sum >> 31 << 1) : 0)) >> (c->shift & 31);
    return y == (int8_t)y ? y : y >> 31 ^ INT8_MAX;
}

/* Inputs of one row, `from` being the middle one. */
ML_INLINE inputs row_at(const job *j, const int8_t *from, int8_t *copy, uint32_t stride) {
    inputs x = {stride == 1 ? *copy : from[j->left_bytes], from[0], from[j->right_bytes]};
    if (stride == 1) {
        *copy = (int8_t)x.middle;
    }
    return x;
}

/* One column of outputs. */
ML_INLINE void column(const job *given, uint32_t stride, bool has_sign) {
    const job j = *given;
    const inputs outside = {j.padding, j.padding, j.padding};
    const int8_t *from = j.input;
    int8_t *copy = j.copy, *output = j.output;
    uint32_t rows = j.input_height, left = j.output_height;
    partial p = {0, 0};
    /* What lies above the lowest row of the first window. */
    for (uint32_t i = 0; i < 2; i++) {
        bool inside = i >= j.pad_top && rows != 0;
        inputs x = inside ? row_at(&j, from, copy, stride) : outside;
        if (inside) {
            from += j.row_bytes;
            copy++;
            rows--;
        }
        p = begun(p, &j.c, x, stride, i == 0);
    }
    uint32_t whole = ML_MIN(left, (rows + stride - 1u) / stride);
    left -= whole;
    for (; whole != 0; whole--, output += j.output_row_bytes) {
        inputs x = row_at(&j, from, copy, stride);
        int32_t sum = add_row(p.first, &j.c, 2, x);
        *output = (int8_t)output_of(&j.c, sum, has_sign);
        p = begun(p, &j.c, x, stride, true);
        from += j.row_bytes;
        copy++;
        if (stride == 2) {
            /* The middle row of the next window; there may be none behind the last. */
            bool inside = rows > 1;
            rows -= inside ? 2u : 1u;
            x = inside ? row_at(&j, from, copy, stride) : outside;
            from += inside ? j.row_bytes : 0;
            p = begun(p, &j.c, x, stride, false);
        }
    }
    for (; left != 0; left--, output += j.output_row_bytes) {
        *output = (int8_t)output_of(&j.c, add_row(p.first, &j.c, 2, outside), has_sign);
        p = begun(p, &j.c, outside, stride, true);
        if (stride == 2) {
            p = begun(p, &j.c, outside, stride, false);
        }
    }
}

static void run_column(const job *j, uint32_t stride, bool has_sign) {
    if (stride == 2) {
        column(j, 2, true);
    } else if (has_sign) {
        column(j, 1, true);
    } else {
        column(j, 1, false);
    }
}

/* Takes the weights of one column of the kernel, which lies outside the image, into the start value. */
static void leave_out(job *j, uint32_t kernel_column) {
    for (uint32_t i = kernel_column; i < TAPS; i += 3) {
        j->c.start += j->padding * j->c.weights[i];
        j->c.weights[i] = 0;
    }
}

/* One channel of an image, both beginning with it. */
static void one_channel(const ml_depthwise_columns_args *a, const record *r, const int8_t *image, int8_t *output,
                        int8_t *copy) {
    const ml_window *w = &a->window;
    uint32_t channels = w->input_channels, middle = 1u - w->pad_left;
    uint32_t row_bytes = w->input_width * channels;
    const channel c = channel_of(r);
    job j = {c,
             image + middle * channels,
             (int32_t)row_bytes,
             -(int32_t)channels,
             (int32_t)channels,
             copy,
             output,
             (int32_t)(w->output_width * channels),
             w->pad_top,
             w->input_height,
             w->output_height,
             a->padding};
    if (w->stride_width == 1 && middle != 0) {
        for (uint32_t y = 0; y < w->input_height; y++) {
            copy[y] = image[y * row_bytes];
        }
    }
    for (uint32_t x = 0; x < w->output_width; x++, middle += w->stride_width) {
        bool left_outside = middle == 0, right_outside = middle + 1u == w->input_width;
        if (x == 1) {
            j.c = c; /* with the left column again */
        }
        if (left_outside) {
            leave_out(&j, 0);
        }
        if (right_outside) {
            leave_out(&j, 2);
        }
        j.left_bytes = left_outside ? 0 : -(int32_t)channels;
        j.right_bytes = right_outside ? 0 : (int32_t)channels;
        run_column(&j, w->stride_width, a->has_sign != 0);
        j.input += w->stride_width * channels;
        j.output += channels;
    }
}

/* Operands: input, channels, output, a copy of a column. */
ml_status ml_depthwise_columns_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_columns_args *a = args;
    const ml_window *w = &a->window;
    uint64_t last_row = (uint64_t)(w->output_height - 1u) * w->stride_height + 1u;
    uint64_t last_middle = (uint64_t)(w->output_width - 1u) * w->stride_width + 1u;
    bool sound =
        w->output_height != 0 && w->output_width != 0 && w->pad_top <= 1 && w->pad_left <= 1 &&
        (w->stride_width == 1 || w->stride_width == 2) && w->stride_height == w->stride_width &&
        last_row < (uint64_t)w->input_height + w->pad_top && last_middle < (uint64_t)w->input_width + w->pad_left &&
        w->output_channels == w->input_channels && ml_holds(&operands[1], sizeof(record), w->input_channels, 1, 1, 1) &&
        ml_holds(&operands[3], 1, w->input_height, 1, 1, 1) && ml_window_holds(w, &operands[0], 1, &operands[2], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_depthwise_columns_s8(const void *args, void *const *operands) {
    const ml_depthwise_columns_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    int8_t *output = operands[2];
    for (uint32_t batch = 0; batch < w->batches; batch++) {
        for (uint32_t c = 0; c < w->input_channels; c++) {
            one_channel(a, (const record *)operands[1] + c, image + c, output + c, operands[3]);
        }
        image += w->input_height * w->input_width * w->input_channels;
        output += w->output_height * w->output_width * w->input_channels;
    }
    return 0;
}
