/* Access to memory-mapped registers. */
#ifndef ML_REGISTERS_H
#define ML_REGISTERS_H

#include <stdint.h>

#define ML_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#endif
