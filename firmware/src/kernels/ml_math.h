/* Functions of float32 for kernels: no C library, no tables, no double. Error bounds are against the exact result; they
 * were measured over all float32 arguments, and `ulp` is the spacing of float32 at the result. */
#ifndef ML_MATH_H
#define ML_MATH_H

/* e^x: within 1 ulp; 0 and infinity where float32 ends. NaN stays NaN. */
float ml_exp_f32(float x);

#endif
