/* The patch of `conv.c`: the inputs under the windows of three pixels, widened to 16 bits.
 *
 * A word holds inputs (0, 2) or (1, 3) of four (SXTB16's order), and words of the three pixels alternate. Fours are
 * taken row by row, the last of a row filled up with what has weights of 0. Where that would take more fours, rows are
 * joined: first the whole fours of all rows, then what is left over in all of them, zeros before it in the last four.
 */
#ifndef ML_PATCH_H
#define ML_PATCH_H

#include "../window.h"
#include "simd.h"

#define PIXELS 3u

/* Widens four inputs of each of three pixels. */
static inline void widen_words(uint32_t x, uint32_t y, uint32_t z, uint32_t *to) {
    to[0] = ml_even_bytes(x), to[1] = ml_even_bytes(y), to[2] = ml_even_bytes(z);
    to[3] = ml_odd_bytes(x), to[4] = ml_odd_bytes(y), to[5] = ml_odd_bytes(z);
}

#ifdef __ARM_FEATURE_DSP
/* Widens `quads` times four inputs, at least four, of each of three pixels; returns the end of what it has written. */
__attribute__((noinline)) static uint32_t *widen_quads(const int8_t *x, const int8_t *y, const int8_t *z,
                                                       uint32_t quads, uint32_t *to) {
    __asm__ volatile("1: ldr r7, [%[x]], #4\n ldr r8, [%[y]], #4\n ldr r9, [%[z]], #4\n"
                     "sxtb16 r4, r7\n sxtb16 r5, r8\n sxtb16 r6, r9\n"
                     "sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n sxtb16 r9, r9, ror #8\n"
                     "stmia %[to]!, {r4-r9}\n subs %[quads], #1\n bne 1b"
                     : [x] "+r"(x), [y] "+r"(y), [z] "+r"(z), [quads] "+r"(quads), [to] "+r"(to)
                     :
                     : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    return to;
}
#else
static uint32_t *widen_quads(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t *to) {
    for (; quads != 0; quads--, x += 4, y += 4, z += 4, to += 2u * PIXELS) {
        widen_words(ml_load_word(x), ml_load_word(y), ml_load_word(z), to);
    }
    return to;
}
#endif

#if defined(__ARM_FEATURE_DSP) && !defined(__OPTIMIZE_SIZE__)
/* The same for `rows` rows, whose ends lie `skip` bytes before the next ones. Neither is part of its caller: then two
 * operands here lie on the stack for sure, and the registers suffice. */
__attribute__((noinline)) static uint32_t *widen_rows(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads,
                                                      uint32_t skip, uint32_t rows, uint32_t *to) {
    uint32_t left;
    __asm__ volatile(
        "1: ldr %[left], %[quads]\n"
        "2: ldr r7, [%[x]], #4\n ldr r8, [%[y]], #4\n ldr r9, [%[z]], #4\n"
        "sxtb16 r4, r7\n sxtb16 r5, r8\n sxtb16 r6, r9\n"
        "sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n sxtb16 r9, r9, ror #8\n"
        "stmia %[to]!, {r4-r9}\n subs %[left], #1\n bne 2b\n"
        "ldr %[left], %[skip]\n add %[x], %[left]\n add %[y], %[left]\n add %[z], %[left]\n subs %[rows], #1\n bne 1b"
        : [x] "+r"(x), [y] "+r"(y), [z] "+r"(z), [rows] "+r"(rows), [to] "+r"(to), [left] "=&r"(left)
        : [quads] "m"(quads), [skip] "m"(skip)
        : "r4", "r5", "r6", "r7", "r8", "r9", "cc", "memory");
    return to;
}
#else
static uint32_t *widen_rows(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t quads, uint32_t skip,
                            uint32_t rows, uint32_t *to) {
    for (skip += 4u * quads; rows != 0; rows--, x += skip, y += skip, z += skip) {
        to = widen_quads(x, y, z, quads, to);
    }
    return to;
}
#endif

/* The last 1 to 3 of `count` inputs at `from`, filled up. */
__attribute__((noinline)) static uint32_t last_at(const int8_t *from, uint32_t count) {
    uint32_t rest = count & 3u, word = 0;
    if (!SMALL && count > 4) {
        return ml_load_word(from + count - 4) >> (8u * (4u - rest));
    }
    from += count & ~3u;
    while (rest-- != 0) {
        word = word << 8 | (uint8_t)from[rest];
    }
    return word;
}

/* Widens `count` inputs of each of three pixels, filled up. */
static void widen(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t count, uint32_t *to) {
    if (count >= 4) {
        to = widen_quads(x, y, z, count / 4u, to);
    }
    if ((count & 3u) != 0) {
        widen_words(last_at(x, count), last_at(y, count), last_at(z, count), to);
    }
}

/* The window of one pixel: its first row and column, and where its first input lies in the image; numbers that have
 * wrapped where that is before the image. */
typedef struct place {
    uint32_t top, left, offset;
} place;

typedef struct gather {
    const ml_window *window;
    const int8_t *image;
    uint32_t *patch;
    int8_t *rows; /* of windows that lie outside in part, for each pixel, and one of padding; or joined windows */
    uint32_t row_bytes, image_row_bytes;
    uint32_t row_quads; /* taken row by row */
    uint32_t down_bytes; /* from a row of a window to the next */
    uint32_t inner,
        inner_rows; /* columns, rows before these begin windows that are read in place, whole quads of them */
    bool joined, inside; /* whether all windows lie inside and are read in place */
    int8_t padding;
} gather;

/* Whether rows of windows are joined, which takes less quads. */
static bool is_joined(const ml_window *w, uint32_t row_bytes) {
    return w->kernel_height * row_bytes + 3u < ((row_bytes + 3u) & ~3u) * w->kernel_height;
}

static uint32_t quads_of(const ml_window *w, uint32_t row_bytes) {
    bool joined = is_joined(w, row_bytes);
    return joined ? (w->kernel_height * row_bytes + 3u) / 4u : (row_bytes + 3u) / 4u * w->kernel_height;
}

/* The next byte of a word that is filled from above. */
static inline uint32_t with_byte(uint32_t word, const int8_t *byte) {
    return (word << 24 | word >> 8) | (uint8_t)*byte;
}

/* Widens bytes of one pixel that lie `down` bytes apart. */
static inline void widen_three(const int8_t *x, uint32_t down, uint32_t *to) {
    to[0] = (uint32_t)x[down] << 16;
    to[PIXELS] = ml_lower_halves((uint32_t)x[0], (uint32_t)x[2u * down]);
}

/* Widens the last `rest` bytes of `rows` rows, which begin `down` bytes apart. */
static void widen_rests(const int8_t *x, const int8_t *y, const int8_t *z, uint32_t rest, uint32_t down, uint32_t rows,
                        uint32_t *to) {
    if (!SMALL && rest == 1 && rows == 3) { /* 3x3 windows of three channels, as of the first layers of most models */
        widen_three(x, down, to), widen_three(y, down, to + 1), widen_three(z, down, to + 2);
        return;
    }
    uint32_t in_row = rest;
    for (uint32_t left = rest * rows, count; left != 0; left -= count, to += 2u * PIXELS) {
        uint32_t a = 0, b = 0, c = 0;
        count = ML_MIN(left, 4u);
        for (uint32_t i = count; i != 0; i--) {
            a = with_byte(a, x++), b = with_byte(b, y++), c = with_byte(c, z++);
            if (--in_row == 0) {
                in_row = rest, x += (int32_t)(down - rest), y += (int32_t)(down - rest), z += (int32_t)(down - rest);
            }
        }
        widen_words(a << 24 | a >> 8, b << 24 | b >> 8, c << 24 | c >> 8, to);
    }
}

/* Fills the patch with three windows whose rows are `down` bytes apart. Once in an image, not in all that call it. */
__attribute__((noinline)) static void widen_windows(const gather *g, const int8_t *x, const int8_t *y, const int8_t *z,
                                                    uint32_t down) {
    uint32_t bytes = 4u * g->row_quads, rows = g->window->kernel_height, *to = g->patch;
    if (bytes != 0) {
        to = widen_rows(x, y, z, g->row_quads, down - bytes, rows, to);
    }
    if (g->joined) {
        widen_rests(x + bytes, y + bytes, z + bytes, g->row_bytes & 3u, down, rows, to);
    }
}

/* One pixel's window, some columns of which may lie outside. */
typedef struct edge {
    uint32_t top, offset; /* of the first input that lies inside */
    uint32_t before, count; /* inputs of a row outside, inside */
    int8_t *row; /* made there, if not null */
} edge;

__attribute__((noinline)) static edge edge_of(const gather *g, const place *p, int8_t *row) {
    const ml_window *w = g->window;
    uint32_t skipped = p->left < w->input_width ? 0 : ML_MIN(0u - p->left, w->kernel_width), first = p->left + skipped;
    uint32_t taps = first < w->input_width ? ML_MIN(w->kernel_width - skipped, w->input_width - first) : 0;
    uint32_t before = skipped * w->input_channels;
    return (edge){p->top, p->offset + before, before, taps * w->input_channels, row};
}

/* The row `down` below the window's first one, which lies at `offset` from that. */
static inline const int8_t *row_at(const gather *g, const edge *e, uint32_t down, uint32_t offset) {
    if (e->top + down >= g->window->input_height) {
        return g->rows + PIXELS * 4u * g->row_quads;
    }
    const int8_t *from = g->image + (uint32_t)(e->offset + offset); /* what has wrapped wraps back */
    if (e->row == NULL) {
        return from;
    }
    copy(e->row + e->before, from, e->count);
    return e->row;
}

/* Fills the patch with the windows at three places, some of which lie outside in part. */
static void gather_padded(const gather *g, const place *at) {
    uint32_t dilation = g->window->dilation_height, bytes = 4u * g->row_quads, *patch = g->patch;
    edge edges[PIXELS];
    for (uint32_t p = 0; p < PIXELS; p++) {
        bool whole = at[p].left < g->inner && g->row_bytes == bytes;
        edges[p] = edge_of(g, &at[p], whole ? NULL : g->rows + p * bytes);
        if (!whole) {
            fill(edges[p].row, g->padding, bytes); /* rows have the same columns outside */
        }
    }
    for (uint32_t ky = g->window->kernel_height, down = 0, offset = 0; ky != 0; ky--) {
        patch = widen_quads(row_at(g, &edges[0], down, offset), row_at(g, &edges[1], down, offset),
                            row_at(g, &edges[2], down, offset), g->row_quads, patch);
        down += dilation, offset += g->down_bytes;
    }
}

/* The same for windows whose rows are joined: each is copied to scratch first. */
static void gather_joined(const gather *g, const place *at) {
    const ml_window *w = g->window;
    uint32_t bytes = w->kernel_height * g->row_bytes;
    int8_t *window = g->rows;
    for (uint32_t p = 0; p < PIXELS; p++, window += bytes) {
        edge e = edge_of(g, &at[p], NULL);
        int8_t *row = window + e.before;
        fill(window, g->padding, bytes);
        for (uint32_t ky = w->kernel_height; ky != 0; ky--, row += g->row_bytes) {
            if (e.top < w->input_height) {
                copy(row, g->image + e.offset, e.count);
            }
            e.top += w->dilation_height, e.offset += g->down_bytes;
        }
    }
    widen_windows(g, g->rows, g->rows + bytes, g->rows + 2u * bytes, g->row_bytes);
}

/* Says how windows are read; `end`: of the patch. */
static inline void set_gather(gather *g, const ml_window *w, int32_t padding, uint32_t *patch, uint32_t *end) {
    g->window = w, g->patch = patch, g->rows = (int8_t *)(void *)end, g->padding = (int8_t)padding;
    g->row_bytes = w->kernel_width * w->input_channels;
    g->joined = is_joined(w, g->row_bytes);
    g->row_quads = (g->row_bytes + (g->joined ? 0u : 3u)) / 4u;
    g->image_row_bytes = w->input_width * w->input_channels;
    g->down_bytes = w->dilation_height * g->image_row_bytes;
    g->inner = w->input_width >= w->kernel_width ? w->input_width - w->kernel_width + 1u : 0u;
    /* What the last quad of a row reads beyond it must lie in the image. */
    bool beyond = 4u * g->row_quads > g->row_bytes;
    uint32_t reach = (w->kernel_height - 1u) * w->dilation_height + (beyond ? 1u : 0u);
    bool inside = w->input_height > reach && (!beyond || g->image_row_bytes >= 3u);
    g->inner_rows = inside ? w->input_height - reach : 0u;
}

#endif
