/* The inputs under some windows, spread out to words, taps in pairs: [pairs of taps][2][2 taps]. A row of a window is
 * filled up to whole pairs with what meets a weight of 0. */
#ifndef ML_THUMB_SPREAD_H
#define ML_THUMB_SPREAD_H

#include "../window.h"

/* What is the same for all pixels. */
typedef struct view {
    const ml_window *window;
    uint32_t row_bytes; /* of the input */
    uint32_t step; /* bytes from one window to the next */
    uint32_t apart; /* bytes from one row of a window to the next */
    uint32_t run; /* bytes of one row of a window; where that is odd, one more, which meets a weight of 0 */
    uint32_t inner_rows; /* windows that begin above this row end inside */
    uint32_t first, inner; /* the first column of outputs whose windows lie inside, and how many there are */
    uint32_t last; /* where in the image the last window begins that may be read to the end of its runs */
    int8_t padding;
} view;

static view view_of(const ml_window *w, int32_t padding) {
    view v = {.window = w, .row_bytes = w->input_width * w->input_channels, .padding = (int8_t)padding};
    uint32_t image_bytes = w->input_height * v.row_bytes, down = (w->kernel_height - 1u) * w->dilation_height;
    v.step = w->stride_width * w->input_channels;
    v.apart = w->dilation_height * v.row_bytes;
    v.run = (w->kernel_width * w->input_channels + 1u) & ~1u;
    v.first = (w->pad_left + w->stride_width - 1u) / w->stride_width;
    uint64_t end = (uint64_t)down * v.row_bytes + v.run;
    if ((w->dilation_width == 1 || w->kernel_width == 1) && w->kernel_width <= w->input_width &&
        down < w->input_height && end <= image_bytes) {
        uint32_t behind = (w->input_width - w->kernel_width + w->pad_left) / w->stride_width + 1u;
        behind = ML_MIN(behind, w->output_width);
        v.inner_rows = w->input_height - down;
        v.inner = behind > v.first ? behind - v.first : 0;
        v.last = image_bytes - (uint32_t)end;
    }
    return v;
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
    pixel pixel;
    uint32_t x, y, inner; /* how many windows of the row lie inside */
} cursor;

static void begin_row(const view *v, cursor *c) {
    const ml_window *w = v->window;
    c->x = 0;
    c->pixel.top = c->y * w->stride_height - w->pad_top;
    c->pixel.left = 0u - w->pad_left;
    c->pixel.at = c->pixel.top * v->row_bytes + c->pixel.left * w->input_channels;
    c->inner = c->pixel.top < v->inner_rows ? v->inner : 0;
    if (c->inner != 0 && c->pixel.at + (v->first + c->inner - 1u) * v->step > v->last) {
        c->inner--; /* one more is read than there is */
    }
}

static void next_row(const view *v, cursor *c) {
    if (++c->y == v->window->output_height) {
        c->y = 0;
        c->pixel.image += v->window->input_height * v->row_bytes;
    }
    begin_row(v, c);
}

/* To the pixel that comes `count` behind, at most the first of the next row. */
ML_INLINE void advance(const view *v, cursor *c, uint32_t count) {
    c->pixel.at += count * v->step;
    c->pixel.left += count * v->window->stride_width;
    c->x += count;
    if (c->x == v->window->output_width) {
        next_row(v, c);
    }
}

__attribute__((noinline)) static pixel next_pixel(const view *v, cursor *c) {
    pixel p = c->pixel;
    p.inside = c->x - v->first < c->inner;
    advance(v, c, 1);
    return p;
}

#if defined(__thumb__) && !defined(__thumb2__)
/* clang-format off */
/* r0: words; r1: inputs of the first pixel; r6: how far behind lie those of the second one; r7: 0; r8: rows; r9: bytes
 * from the end of a row to the next; r10: bytes of a row. */
#define SPREAD(store)                    \
    "1: mov r2, r1\n"                    \
    "add r2, r10\n"                      \
    "mov r11, r2\n"                      \
    "2: ldrsb r2, [r1, r7]\n"            \
    "ldrsb r4, [r1, r6]\n"               \
    "adds r1, r1, #1\n"                  \
    "ldrsb r3, [r1, r7]\n"               \
    "ldrsb r5, [r1, r6]\n"               \
    "adds r1, r1, #1\n"                  \
    store                                \
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
                     : "l"(second), "l"(zero), "r"(rows), "r"(gap), "r"(bytes)                        \
                     : "r2", "r3", "r4", "r5", "r11", "cc", "memory")

/* Some rows (`count`) of the windows of two pixels, which are runs of memory, `apart` bytes from each other. */
ML_INLINE void spread_runs(const view *v, const int8_t *from, uint32_t apart, uint32_t count, uint32_t *to,
                           bool halves) {
    register uint32_t *word __asm__("r0") = to;
    register const int8_t *input __asm__("r1") = from;
    register uint32_t second __asm__("r6") = apart;
    register uint32_t zero __asm__("r7") = 0;
    register uint32_t rows __asm__("r8") = count;
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
static void spread_runs(const view *v, const int8_t *from, uint32_t apart, uint32_t count, uint32_t *to, bool halves) {
    for (; count != 0; count--, from += count != 0 ? v->apart : 0) {
        for (uint32_t i = 0; i < v->run; i += 2, to += 4) {
            for (uint32_t tap = 0; tap < 2; tap++) {
                const int8_t *one = from + i + tap, *two = one + (int32_t)apart; /* back where rows overlap */
                if (halves) {
                    to[tap] = (uint32_t)*one + ((uint32_t)*two << 16);
                } else {
                    to[tap] = (uint32_t)*one;
                    to[2u + tap] = (uint32_t)*two;
                }
            }
        }
    }
}
#endif

/* Spreads any window, to the lower halves of words or, then, to the upper ones. */
__attribute__((cold)) static void spread_window(const view *v, const pixel *p, uint32_t *to, bool upper) {
    const ml_window *w = v->window;
    for (uint32_t ky = 0, y = p->top; ky < w->kernel_height; ky++, y += w->dilation_height, to += 2u * v->run) {
        uint32_t *word = to, next = 1; /* words to the next tap: 1 and 3 in turn */
        for (uint32_t kx = 0, x = p->left; kx < w->kernel_width; kx++, x += w->dilation_width) {
            bool inside = y < w->input_height && x < w->input_width;
            const int8_t *from = inside ? p->image + y * v->row_bytes + x * w->input_channels : &v->padding;
            for (uint32_t c = w->input_channels; c != 0; c--, from += inside, word += next, next ^= 2u) {
                *word = upper ? *word + ((uint32_t)*from << 16) : (uint32_t)*from;
            }
        }
    }
}

/* Puts padding in the place of some inputs, `apart` bytes from each other, in words that lie `words` apart. */
__attribute__((noinline)) static void pad_taps(int32_t padding, const int8_t *input, uint32_t apart, uint32_t *word,
                                               uint32_t words, uint32_t shift, uint32_t count) {
    for (;;) {
        *word += (uint32_t)(padding - *input) << shift;
        if (--count == 0) {
            return;
        }
        input += apart;
        word += words;
    }
}

/* Puts padding in the place of what `spread_runs` has read beside the image, in rows from `first` to `end`, at least
 * one. */
__attribute__((cold)) static void pad_columns(const view *v, const pixel *p, uint32_t first, uint32_t end, uint32_t *to,
                                              uint32_t shift) {
    const ml_window *w = v->window;
    uint32_t words = 2u * v->run;
    for (uint32_t kx = 0; kx < w->kernel_width; kx++) {
        if (p->left + kx < w->input_width) {
            continue;
        }
        for (uint32_t i = kx * w->input_channels; i < (kx + 1u) * w->input_channels; i++) {
            pad_taps(v->padding, p->image + (p->at + first * v->apart + i), v->apart,
                     to + first * words + 2u * i - (i & 1u), words, shift, end - first);
        }
    }
}

static void pad_rows(const view *v, uint32_t first, uint32_t end, uint32_t *to, bool halves) {
    uint32_t padding = (uint32_t)v->padding + (halves ? (uint32_t)v->padding << 16 : 0);
    uint32_t *stop = to + 2u * v->run * end;
    for (to += 2u * v->run * first; to != stop; to += 4) {
        to[0] = to[1] = padding;
        if (!halves) {
            to[2] = to[3] = padding;
        }
    }
}

/* Spreads the windows of two pixels side by side that lie outside in part; false where that would read outside the
 * image's memory. */
__attribute__((cold)) static bool spread_edge(const view *v, const pixel *a, const pixel *b, uint32_t *to,
                                              bool halves) {
    const ml_window *w = v->window;
    uint32_t first = 0, end, y = a->top, image_bytes = w->input_height * v->row_bytes;
    for (; first < w->kernel_height && y >= w->input_height; first++) {
        y += w->dilation_height;
    }
    for (end = first; end < w->kernel_height && y < w->input_height; end++) {
        y += w->dilation_height;
    }
    uint32_t begin = a->at + first * v->apart, length = b->at - a->at + (end - first) * v->apart + v->run;
    bool readable = w->dilation_width == 1 && a->image == b->image && a->top == b->top && first != end &&
                    v->apart <= image_bytes && b->at - a->at <= image_bytes && begin < image_bytes &&
                    length - v->apart <= image_bytes - begin;
    if (readable) {
        spread_runs(v, a->image + begin, b->at - a->at, end - first, to + 2u * v->run * first, halves);
        pad_columns(v, a, first, end, to, 0);
        pad_columns(v, b, first, end, halves ? to : to + 2, halves ? 16 : 0);
        pad_rows(v, 0, first, to, halves);
        pad_rows(v, end, w->kernel_height, to, halves);
    }
    return readable;
}

/* Spreads the next two pixels, or one of which nothing is to become twice. */
ML_INLINE void spread_two(const view *v, cursor *c, uint32_t count, uint32_t *to, bool halves) {
    uint32_t x = c->x - v->first, apart = v->step;
    const int8_t *from = c->pixel.image + c->pixel.at;
    if (x < c->inner && x + 1u < c->inner && count > 1) {
        advance(v, c, 2);
    } else {
        pixel a = next_pixel(v, c), b = count > 1 ? next_pixel(v, c) : a;
        apart = (uint32_t)(b.image - a.image) + b.at - a.at;
        if (!a.inside || !b.inside) {
            if (!spread_edge(v, &a, &b, to, halves)) {
                spread_window(v, &a, to, false);
                spread_window(v, &b, halves ? to : to + 2, halves);
            }
            return;
        }
    }
    spread_runs(v, from, apart, v->window->kernel_height, to, halves);
}

#endif
