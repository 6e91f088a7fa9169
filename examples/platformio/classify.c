#include "classify.h"

#include <microlith.h>
#include <model.h>

static ml_session session;
static _Alignas(16) uint8_t arena[ML_DIGITS_INT8_ARENA_BYTES];

static ml_status start(void) {
    ml_status status = ml_open(&session, ml_digits_int8, ml_digits_int8_bytes);
    if (status == ML_OK) {
        status = ml_start(&session, &(ml_memory){.arena = arena, .arena_bytes = sizeof arena});
    }
    return status;
}

int classify(const uint8_t ink[64]) {
    static ml_status status = ML_OK;
    static int started = 0;
    if (!started) {
        status = start();
        started = 1;
    }
    if (status != ML_OK) {
        return -(int)status;
    }
    int8_t *pixels = ml_input(&session, 0);
    for (int i = 0; i < 64; i++) {
        pixels[i] = (int8_t)(ink[i] * 255 / 16 - 128); /* the model's scale is 1/255, its zero point -128 */
    }
    status = ml_invoke(&session);
    if (status != ML_OK) {
        return -(int)status;
    }
    const int8_t *scores = ml_output(&session, 0);
    int best = 0;
    for (int digit = 1; digit < 10; digit++) {
        best = scores[digit] > scores[best] ? digit : best;
    }
    return best;
}
