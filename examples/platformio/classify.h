/* Which digit is it? The model of examples/digits, from the library that `sdk lower --library` has written. */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The digit on 8 x 8 pixels of 0 (paper) to 16 (ink); below 0 the ml_status of what went wrong, negated. */
int classify(const uint8_t ink[64]);

#ifdef __cplusplus
}
#endif

#endif
