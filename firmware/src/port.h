/* What a chip family must provide to carry the server: five functions and, from its linker script, the memory map.
 * The ports in firmware/ports are examples. */
#ifndef ML_PORT_H
#define ML_PORT_H

#include <stdint.h>

/* Brings clock, serial line and counter up. Called once, on a running stack, with .data and .bss ready. */
void ml_port_init(void);

/* The next received byte, 0 to 255, or -1 if none has come. Never waits. */
int32_t ml_port_read(void);

/* Sends `count` bytes; returns when the last one is handed to the hardware. */
void ml_port_write(const uint8_t *bytes, uint32_t count);

/* A free-running 32-bit up counter at the rate that the board's file states (instructions, cycles or timer ticks). */
uint32_t ml_port_ticks(void);

/* Restarts the chip as a power cycle would. Does not return. */
_Noreturn void ml_port_reset(void);

/* Only for boards whose file has a region `programs`: flash that takes programs while the image runs from the rest of
 * it. Addresses are those that the image reads it by. Both return when what they have done can be read there; the
 * caller looks. Erases the block of ML_PROGRAMS_ERASE_BYTES at `address`. */
void ml_port_flash_erase(uint32_t address);

/* Writes whole pages of 256 bytes where the flash is erased; `bytes` is aligned to 4. */
void ml_port_flash_write(uint32_t address, const uint8_t *bytes, uint32_t count);

/* The RAM between .bss and the stack, from the linker script (or, on a host, from an array): what the server lends to
 * programs. Both ends are aligned to 16 bytes. */
extern uint8_t ml_pool_start[];
extern uint8_t ml_pool_end[];

/* The stack, painted with ML_STACK_PAINT by the start-up code before the first call; it grows down from
 * ml_stack_end to ml_stack_start. */
extern uint8_t ml_stack_start[];
extern uint8_t ml_stack_end[];
#define ML_STACK_PAINT 0xC5u

/* What the start-up code calls. Never returns. */
_Noreturn void ml_main(void);

#endif
