/* Functions of float32 for kernels: no C library, no tables, no double. Error bounds are against the exact result and
 * were measured over all float32 arguments; `ulp` is the spacing of float32 at the result. NaN gives NaN. */
#ifndef ML_MATH_H
#define ML_MATH_H

/* e^x: within 1.1 ulp; 0 and infinity where float32 ends. */
float ml_exp_f32(float x);

/* Nearest integers below, above, and to x with ties away from zero: exact. */
float ml_floor_f32(float x);
float ml_ceil_f32(float x);
float ml_round_f32(float x);

/* x - n * y with the sign of x and |result| < |y|: exact. NaN for y = 0 and for an infinite x. */
float ml_fmod_f32(float x, float y);

#endif
