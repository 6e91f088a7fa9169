/* Functions of float32 for kernels: no C library, no tables, no double. Error bounds are against the exact result and
 * were measured over all float32 arguments; `ulp` is the spacing of float32 at the result. NaN gives NaN. */
#ifndef ML_MATH_H
#define ML_MATH_H

/* e^x: within 1.1 ulp; 0 and infinity where float32 ends. */
float ml_exp_f32(float x);

/* e^x - 1 for x <= 0: absolute error within 1.2e-7. */
float ml_exp_minus_1_f32(float x);

/* 1 / (1 + e^-x) as TensorFlow Lite has it: 1 above 16.62, e^x below -9. Within 2 ulp of that. */
float ml_logistic_f32(float x);

/* tanh x: within 2 ulp. */
float ml_tanh_f32(float x);

/* Natural logarithm: within 1 ulp. -infinity for 0, NaN below. */
float ml_log_f32(float x);

/* Sine and cosine of any x, in radians: within 3 ulp. NaN for an infinite x. */
float ml_sin_f32(float x);
float ml_cos_f32(float x);

/* Square root: rounded correctly, as IEEE 754 asks. NaN below 0. */
float ml_sqrt_f32(float x);

/* Nearest integers below, above, and to x with ties away from zero: exact. */
float ml_floor_f32(float x);
float ml_ceil_f32(float x);
float ml_round_f32(float x);

/* x - n * y with the sign of x and |result| < |y|: exact. NaN for y = 0 and for an infinite x. */
float ml_fmod_f32(float x, float y);

#endif
