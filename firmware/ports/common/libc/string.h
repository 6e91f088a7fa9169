/* All of the C library that the firmware uses, for compilers that come without one. mem.c defines these. */
#ifndef ML_STRING_H
#define ML_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);

#endif
