/* The inputs under some windows, spread out to words, taps in pairs: [pairs of taps][2][2 taps]. A row of a window is
 * filled up to whole pairs with what meets a weight of 0. */
#ifndef ML_THUMB_SPREAD_H
#define ML_THUMB_SPREAD_H

#include "../window.h"

/* What is the same for all pixels. */
typedef struct view {
    const ml_window *window;
    uint32_t row_bytes; /* of the input */
    uint32_t apart; /* bytes from one row of a window to the next */
    uint32_t run; /* bytes of one row of a window; where that is odd, one more, which meets a weight of 0 */
    uint32_t inner_rows, inner_columns; /* windows that begin below lie inside, and have rows that are runs of memory */
    uint32_t last; /* where in the image the last one begins that may be read to the end of its runs */
    int8_t padding;
} view;

static view view_of(const ml_window *w, int32_t padding) {
    uint32_t row_bytes = w->input_width * w->input_channels, apart = w->dilation_height * row_bytes;
    uint32_t run = (w->kernel_width * w->input_channels + 1u) & ~1u;
    uint64_t down = (uint64_t)(w->kernel_height - 1u) * w->dilation_height, end = down * row_bytes + run;
    bool runs = (w->dilation_width == 1 || w->kernel_width == 1) && w->kernel_width <= w->input_width &&
                down < w->input_height && end <= w->input_height * row_bytes;
    return (view){w,
                  row_bytes,
                  apart,
                  run,
                  runs ? w->input_height - (uint32_t)down : 0,
                  runs ? w->input_width - w->kernel_width + 1u : 0,
                  w->input_height * row_bytes - (uint32_t)end,
                  (int8_t)padding};
}

/* The window of a pixel. */
typedef struct pixel {
    const int8_t *image;
    uint32_t top, left; /* may lie outside: then they have wrapped */
    uint32_t at; /* where in the image it begins, if it is inside */
    bool inside;
} pixel;

/* The pixel that is computed next. */
typedef struct cursor {
    const int8_t *image;
    uint32_t y, x;
} cursor;

static pixel next_pixel(const view *v, cursor *c) {
    const ml_window *w = v->window;
    pixel p = {c->image, c->y * w->stride_height - w->pad_top, c->x * w->stride_width - w->pad_left, 0, false};
    p.at = p.top * v->row_bytes + p.left * w->input_channels;
    p.inside = p.top < v->inner_rows && p.left < v->inner_columns && p.at <= v->last;
    if (++c->x == w->output_width) {
        c->x = 0;
        if (++c->y == w->output_height) {
            c->y = 0;
            c->image += w->input_height * v->row_bytes;
        }
    }
    return p;
}

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
/* r0: words; r1: inputs of the first pixel; r6, r7: how far behind lie two of the second one; r8: rows; r9: bytes from
 * the end of a row to the next; r10: bytes of a row. */
#define SPREAD(store)                    \
    "1: mov r2, r1\n"                    \
    "add r2, r10\n"                      \
    "mov r11, r2\n"                      \
    "2: movs r2, #0\n"                   \
    "ldrsb r2, [r1, r2]\n"               \
    "movs r3, #1\n"                      \
    "ldrsb r3, [r1, r3]\n"               \
    "ldrsb r4, [r1, r6]\n"               \
    "ldrsb r5, [r1, r7]\n"               \
    store                                \
    "adds r1, r1, #2\n"                  \
    "cmp r1, r11\n"                      \
    "bne 2b\n"                           \
    "add r1, r9\n"                       \
    "mov r2, r8\n"                       \
    "subs r2, r2, #1\n"                  \
    "mov r8, r2\n"                       \
    "bne 1b"
#define STORE_JOINED                     \
    "lsls r4, r4, #16\n"                 \
    "adds r2, r2, r4\n"                  \
    "lsls r5, r5, #16\n"                 \
    "adds r3, r3, r5\n"                  \
    "stmia r0!, {r2, r3}\n"              \
    "adds r0, r0, #8\n"
#define STORE_FOUR "stmia r0!, {r2, r3, r4, r5}\n"
#define SPREAD_ROWS(store)                                                                               \
    __asm__ volatile(".syntax unified\n" SPREAD(store)                                                   \
                     : "+l"(word), "+l"(input)                                                           \
                     : "l"(second), "l"(second1), "r"(rows), "r"(gap), "r"(bytes)                        \
                     : "r2", "r3", "r4", "r5", "r11", "cc", "memory")

/* The windows of two pixels that lie inside. */
ML_INLINE void spread_inside(const view *v, const pixel *a, const pixel *b, uint32_t *to, bool halves) {
    register uint32_t *word __asm__("r0") = to;
    register const int8_t *input __asm__("r1") = a->image + a->at;
    register uint32_t second __asm__("r6") = (uint32_t)(b->image + b->at) - (uint32_t)input;
    register uint32_t second1 __asm__("r7") = second + 1u;
    register uint32_t rows __asm__("r8") = v->window->kernel_height;
    register uint32_t gap __asm__("r9") = v->apart - v->run;
    register uint32_t bytes __asm__("r10") = v->run;
    if (halves) {
        SPREAD_ROWS(STORE_JOINED);
    } else {
        SPREAD_ROWS(STORE_FOUR);
    }
}
/* clang-format on */
#else
static void spread_inside(const view *v, const pixel *a, const pixel *b, uint32_t *to, bool halves) {
    for (uint32_t ky = 0; ky < v->window->kernel_height; ky++) {
        const int8_t *first = a->image + a->at + ky * v->apart, *second = b->image + b->at + ky * v->apart;
        for (uint32_t i = 0; i < v->run; i += 2, to += 4) {
            for (uint32_t tap = 0; tap < 2; tap++) {
                if (halves) {
                    to[tap] = (uint32_t)first[i + tap] + ((uint32_t)second[i + tap] << 16);
                } else {
                    to[tap] = (uint32_t)first[i + tap];
                    to[2u + tap] = (uint32_t)second[i + tap];
                }
            }
        }
    }
}
#endif

/* Where the inputs of one pixel go: to words, or to the upper halves of words. */
typedef struct place {
    uint32_t *word;
    uint32_t next; /* words to the next tap: 1 and 3 in turn */
    bool upper;
} place;

/* Spreads some taps, which lie `step` bytes apart. */
static void spread_taps(place *p, const int8_t *from, uint32_t step, uint32_t count) {
    uint32_t *to = p->word, next = p->next;
    if (p->upper) {
        for (; count != 0; count--, from += step, to += next, next ^= 2u) {
            *to += (uint32_t)*from << 16;
        }
    } else {
        for (; count != 0; count--, from += step, to += next, next ^= 2u) {
            *to = (uint32_t)*from;
        }
    }
    p->word = to;
    p->next = next;
}

/* Spreads one row of a window; `row` is NULL where the image has none. */
static void spread_row(const view *v, const int8_t *row, uint32_t left, place *to) {
    const ml_window *w = v->window;
    for (uint32_t kx = 0, column = left, taps; kx < w->kernel_width; kx += taps, column += taps * w->dilation_width) {
        bool inside = row != NULL && column < w->input_width;
        /* As many as lie inside, or outside, together. */
        uint32_t end = inside ? w->input_width : row != NULL && column > INT32_MAX ? 0 : column - 1u;
        taps = w->dilation_width == 1 ? ML_MIN(w->kernel_width - kx, end - column) : 1u;
        const int8_t *from = inside ? row + column * w->input_channels : &v->padding;
        spread_taps(to, from, inside, taps * w->input_channels);
    }
    if (to->next == 3) { /* a tap that meets a weight of 0 */
        to->word += 3;
        to->next = 1;
    }
}

/* Spreads a window that may lie outside. */
static void spread_window(const view *v, const pixel *p, uint32_t *to, bool upper) {
    const ml_window *w = v->window;
    place at = {to, 1, upper};
    for (uint32_t ky = 0, y = p->top; ky < w->kernel_height; ky++, y += w->dilation_height) {
        spread_row(v, y < w->input_height ? p->image + y * v->row_bytes : NULL, p->left, &at);
    }
}

/* Spreads the next two pixels, or one of which nothing is to become twice. */
ML_INLINE void spread_two(const view *v, cursor *c, uint32_t count, uint32_t *to, bool halves) {
    pixel a = next_pixel(v, c), b = count > 1 ? next_pixel(v, c) : a;
    if (a.inside && b.inside) {
        spread_inside(v, &a, &b, to, halves);
    } else {
        spread_window(v, &a, to, false);
        spread_window(v, &b, halves ? to : to + 2, halves);
    }
}

#endif
