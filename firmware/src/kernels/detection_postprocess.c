/* detection_postprocess_f32: TensorFlow Lite's TFLite_Detection_PostProcess. Boxes are decoded about their anchors;
 * then the best is taken and those that overlap it too much are dropped, until none is left. That is done once for the
 * best class of every box, or `by_class` for each class alone. Layouts: encodings [boxes][box_values], of which the
 * first four count, scores [boxes][background + classes], anchors [boxes][4]; found boxes [detections][4], classes and
 * scores [detections]. A box is y, x, height and width, then as corners top, left, bottom and right. */
#include "ml_kernels.h"
#include "ml_math.h"

typedef struct {
    const ml_detection_postprocess_args *args;
    const float *scores;
    float *corners; /* [boxes][4] */
    float *rest; /* [boxes]: scores of the boxes that are not yet taken or dropped; others are not a number */
    float *boxes, *classes, *found;
    uint32_t count;
} detection;

ml_status ml_detection_postprocess_f32_check(const void *args, const ml_operand *operands) {
    const ml_detection_postprocess_args *a = args;
    if (a->box_values < 4 || a->classes == 0 || a->background > 1 || a->classes > INT32_MAX || a->detections == 0) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->boxes, a->box_values, 1, 1) &&
                ml_holds(&operands[1], 4, a->boxes, a->classes + a->background, 1, 1) &&
                ml_holds(&operands[2], 4, a->boxes, 4, 1, 1) && ml_holds(&operands[3], 4, a->detections, 4, 1, 1) &&
                ml_holds(&operands[4], 4, a->detections, 1, 1, 1) &&
                ml_holds(&operands[5], 4, a->detections, 1, 1, 1) && ml_holds(&operands[6], 4, 1, 1, 1, 1) &&
                ml_holds(&operands[7], 4, a->boxes, 5, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static void decode(const detection *d, const float *encodings, const float *anchors) {
    const ml_detection_postprocess_args *a = d->args;
    float *corners = d->corners;
    for (uint32_t i = 0; i < a->boxes; i++, encodings += a->box_values, anchors += 4, corners += 4) {
        for (uint32_t axis = 0; axis < 2; axis++) {
            float center = encodings[axis] / a->scales[axis] * anchors[2 + axis] + anchors[axis];
            float half = 0.5f * ml_exp_f32(encodings[2 + axis] / a->scales[2 + axis]) * anchors[2 + axis];
            corners[axis] = center - half;
            corners[2 + axis] = center + half;
        }
    }
}

static float area(const float *corners) { return (corners[2] - corners[0]) * (corners[3] - corners[1]); }

/* The part of the two boxes' union that both cover. */
static float overlap(const float *a, const float *b) {
    float area_a = area(a), area_b = area(b);
    if (area_a <= 0.0f || area_b <= 0.0f) {
        return 0.0f;
    }
    float height = ML_MIN(a[2], b[2]) - ML_MAX(a[0], b[0]);
    float width = ML_MIN(a[3], b[3]) - ML_MAX(a[1], b[1]);
    float both = ML_MAX(height, 0.0f) * ML_MAX(width, 0.0f);
    return both / (area_a + area_b - both);
}

/* The class of the highest score, the first of equal ones. */
static uint32_t best_class(const float *scores, uint32_t classes) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < classes; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    return best;
}

/* The box with the highest score that is left, the first of equal ones; `boxes` if none is. */
static uint32_t best_box(const detection *d) {
    uint32_t best = d->args->boxes;
    for (uint32_t i = 0; i < d->args->boxes; i++) {
        if (d->rest[i] >= d->args->least_score && (best == d->args->boxes || d->rest[i] > d->rest[best])) {
            best = i;
        }
    }
    return best;
}

static void drop_overlapping(const detection *d, uint32_t box) {
    const float *corners = d->corners + (size_t)4 * box;
    d->rest[box] = __builtin_nanf("");
    for (uint32_t i = 0; i < d->args->boxes; i++) {
        if (d->rest[i] >= d->args->least_score &&
            overlap(corners, d->corners + (size_t)4 * i) > d->args->most_overlap) {
            d->rest[i] = __builtin_nanf("");
        }
    }
}

/* Puts a detection where its score belongs: of equal ones those of later classes come first, those of one class as they
 * were found. The last one falls out where there is no more room. */
static void insert(detection *d, uint32_t box, uint32_t kind) {
    uint32_t at = d->count;
    float score = d->rest[box], own = (float)kind;
    while (at > 0 && (d->found[at - 1] < score ||
                      (d->args->by_class && !(d->found[at - 1] > score) && d->classes[at - 1] < own))) {
        at--;
    }
    if (at == d->args->detections) {
        return;
    }
    d->count = ML_MIN(d->count + 1, d->args->detections);
    size_t moved = (d->count - 1 - at) * sizeof(float);
    memmove(d->boxes + (size_t)4 * (at + 1), d->boxes + (size_t)4 * at, 4 * moved);
    memmove(d->classes + at + 1, d->classes + at, moved);
    memmove(d->found + at + 1, d->found + at, moved);
    memmove(d->boxes + (size_t)4 * at, d->corners + (size_t)4 * box, 4 * sizeof(float));
    d->classes[at] = own;
    d->found[at] = score;
}

/* Takes at most `limit` boxes by their scores for `kind`, or for their best ones where it is `classes`. */
static void suppress(detection *d, uint32_t kind, uint32_t limit) {
    const ml_detection_postprocess_args *a = d->args;
    const float *scores = d->scores + a->background;
    for (uint32_t i = 0; i < a->boxes; i++, scores += a->classes + a->background) {
        d->rest[i] = scores[kind < a->classes ? kind : best_class(scores, a->classes)];
    }
    scores = d->scores + a->background;
    for (; limit > 0; limit--) {
        uint32_t box = best_box(d);
        if (box == a->boxes) {
            return;
        }
        const float *own = scores + (size_t)box * (a->classes + a->background);
        insert(d, box, kind < a->classes ? kind : best_class(own, a->classes));
        drop_overlapping(d, box);
    }
}

int32_t ml_detection_postprocess_f32(const void *args, void *const *operands) {
    const ml_detection_postprocess_args *a = args;
    float *corners = operands[7], *count = operands[6];
    detection d = {a, operands[1], corners, corners + (size_t)4 * a->boxes, operands[3], operands[4], operands[5], 0};
    decode(&d, operands[0], operands[2]);
    if (!a->by_class) {
        suppress(&d, a->classes, a->detections);
    } else {
        for (uint32_t kind = 0; kind < a->classes; kind++) {
            suppress(&d, kind, a->per_class);
        }
        size_t empty = (a->detections - d.count) * sizeof(float);
        memset(d.boxes + (size_t)4 * d.count, 0, 4 * empty);
        memset(d.classes + d.count, 0, empty);
        memset(d.found + d.count, 0, empty);
    }
    *count = (float)d.count;
    return 0;
}
