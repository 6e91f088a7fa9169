/* From sound to the input of a model that takes features of it: rows of features in a sliding window.
 *
 * `sdk lower` writes declared.c for such a model. It has a listener with all the memory that it needs:
 *
 *   ml_status status = ml_listener_start(&ml_kws_listener);
 *   ...and for each piece of sound, of any length:
 *   status = ml_listener_hear(&ml_kws_listener, samples, count);
 *   if (status == ML_OK && ml_listener_fill(&ml_kws_listener, ml_input(&session, 0))) status = ml_invoke(&session);
 */
#ifndef ML_LISTENER_H
#define ML_LISTENER_H

#include "microlith.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ml_listener {
    const uint8_t *program; /* the front end: a window of samples in, a row of features out */
    uint32_t program_bytes;
    ml_memory memory;
    uint32_t window, stride; /* samples of a row, and from one row to the next */
    int16_t *samples; /* as many as a window has */
    uint32_t row_bytes, row_count;
    uint8_t *rows; /* as many as the model's input has */
    /* Its own: */
    ml_session session;
    uint32_t held; /* samples */
    uint32_t filled; /* rows */
} ml_listener;

/* Begins to listen, or begins again. */
ml_status ml_listener_start(ml_listener *listener);

/* Takes the next `count` samples, and computes each row that is complete with them. */
ml_status ml_listener_hear(ml_listener *listener, const int16_t *samples, uint32_t count);

/* Writes the newest rows to the model's input. 0 if there are not yet as many as it takes. */
int ml_listener_fill(const ml_listener *listener, void *input);

#ifdef __cplusplus
}
#endif
#endif
