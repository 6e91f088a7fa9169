/* A sliding window of features over sound that comes in pieces of any length. */
#include "ml_listener.h"

#include <string.h>

ml_status ml_listener_start(ml_listener *listener) {
    ml_status status = ml_open(&listener->session, listener->program, listener->program_bytes);
    listener->held = 0;
    listener->filled = 0;
    return status == ML_OK ? ml_start(&listener->session, &listener->memory) : status;
}

/* A row of the samples that are held, which fill a window. */
static ml_status add_row(ml_listener *l) {
    memcpy(ml_input(&l->session, 0), l->samples, l->window * sizeof *l->samples);
    ml_status status = ml_invoke(&l->session);
    if (status != ML_OK) {
        return status;
    }
    uint32_t others = (l->row_count - 1) * l->row_bytes;
    memmove(l->rows, l->rows + l->row_bytes, others);
    memcpy(l->rows + others, ml_output(&l->session, 0), l->row_bytes);
    l->filled += l->filled < l->row_count;
    l->held = l->window - l->stride;
    memmove(l->samples, l->samples + l->stride, l->held * sizeof *l->samples);
    return ML_OK;
}

ml_status ml_listener_hear(ml_listener *listener, const int16_t *samples, uint32_t count) {
    if (ml_input(&listener->session, 0) == NULL) {
        return ML_ERR_STATE;
    }
    while (count > 0) {
        uint32_t room = listener->window - listener->held, part = count < room ? count : room;
        memcpy(listener->samples + listener->held, samples, part * sizeof *samples);
        listener->held += part;
        samples += part;
        count -= part;
        ml_status status = listener->held == listener->window ? add_row(listener) : ML_OK;
        if (status != ML_OK) {
            return status;
        }
    }
    return ML_OK;
}

int ml_listener_fill(const ml_listener *listener, void *input) {
    if (listener->filled < listener->row_count || input == NULL) {
        return 0;
    }
    memcpy(input, listener->rows, listener->row_count * listener->row_bytes);
    return 1;
}
