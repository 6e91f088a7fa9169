/* The kernels that this image links: kernels.def, one ML_USE(name) a line, is written by the build for each image. */
#include "kernel.h"
#include "ml_kernels.h"
/* A user's own kernels: written beside kernels.def where an image has some. */
#if __has_include("ml_custom.h")
#include "ml_custom.h"
#endif

#define ML_USE(name) ML_KERNEL_ENTRY_##name,
const ml_kernel ml_kernels[] = {
#include "kernels.def"
    {.number = UINT16_MAX}}; /* ends every search */
#undef ML_USE

const uint32_t ml_kernel_count = sizeof ml_kernels / sizeof ml_kernels[0] - 1u;
