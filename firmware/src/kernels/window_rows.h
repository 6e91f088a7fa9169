/* The rows of windows, for kernels that take several pixels at a time: where one is a run of memory in its image it is
 * read there; elsewhere it is put together in scratch. */
#ifndef ML_WINDOW_ROWS_H
#define ML_WINDOW_ROWS_H

#include "window.h"

/* Where the window of one pixel lies: its first row and column, which may lie outside the image. */
typedef struct ml_place {
    uint32_t top, left;
} ml_place;

typedef struct ml_rows {
    const ml_window *window;
    const int8_t *image;
    int8_t *scratch; /* one row for each pixel; not used where `ml_rows_stay_inside` */
    uint32_t row_bytes, image_row_bytes;
    uint32_t inner; /* columns below this one begin windows that lie inside, if they are not dilated */
    int8_t padding;
} ml_rows;

/* `scratch` may be any where `ml_rows_stay_inside`. */
static inline ml_rows ml_rows_of(const ml_window *w, const int8_t *image, void *scratch, int32_t padding) {
    bool runs = w->dilation_width == 1 && w->input_width >= w->kernel_width;
    return (ml_rows){w,
                     image,
                     scratch,
                     (uint32_t)w->kernel_width * w->input_channels,
                     w->input_width * w->input_channels,
                     runs ? w->input_width - w->kernel_width + 1u : 0u,
                     (int8_t)padding};
}

/* Whether every row of every window is a run of memory in its image. */
static inline bool ml_rows_stay_inside(const ml_window *w) {
    return w->dilation_width == 1 && ml_window_stays_inside(w);
}

#define ML_FEW_BYTES 8u /* that a loop copies before a call has begun to */

/* Row `y` of the window that begins in column `left`, put together in `to`. */
static const int8_t *ml_padded_row(const ml_rows *g, uint32_t y, uint32_t left, int8_t *to) {
    const ml_window *w = g->window;
    uint32_t bytes = w->input_channels, width = y < w->input_height ? w->input_width : 0;
    const int8_t *row = g->image + y * g->image_row_bytes;
    for (int8_t *next = to, *end = to + g->row_bytes; next != end; next += bytes, left += w->dilation_width) {
        bool inside = left < width;
        if (bytes <= ML_FEW_BYTES) {
            for (uint32_t i = 0; i < bytes; i++) {
                next[i] = inside ? row[left * bytes + i] : g->padding;
            }
        } else if (inside) {
            /* A hostile program's scratch may overlap its input. */
            memmove(next, row + left * bytes, bytes);
        } else {
            memset(next, g->padding, bytes);
        }
    }
    return to;
}

/* The row that lies `down` below the first one of a window; `pixel`: which row of scratch it may use. */
static inline const int8_t *ml_row(const ml_rows *g, ml_place at, uint32_t down, uint32_t pixel) {
    uint32_t y = at.top + down;
    bool inside = y < g->window->input_height && at.left < g->inner;
    return inside ? g->image + y * g->image_row_bytes + at.left * g->window->input_channels
                  : ml_padded_row(g, y, at.left, g->scratch + pixel * g->row_bytes);
}

/* The window of the next output pixel, which lies in `column`. */
typedef struct ml_cursor {
    ml_place place;
    uint32_t column;
} ml_cursor;

static inline ml_cursor ml_first_place(const ml_window *w) {
    return (ml_cursor){{0u - w->pad_top, 0u - w->pad_left}, 0};
}

/* The next `count` places; up to `size`, the last again and again. */
static inline void ml_next_places(const ml_window *w, ml_cursor *next, uint32_t count, uint32_t size,
                                  ml_place *places) {
    for (uint32_t p = 0; p < size; p++) {
        if (p >= count) {
            places[p] = places[p - 1u];
            continue;
        }
        places[p] = next->place;
        next->place.left += w->stride_width;
        if (++next->column == w->output_width) {
            next->column = 0;
            next->place.left = 0u - w->pad_left;
            next->place.top += w->stride_height;
        }
    }
}

#endif
