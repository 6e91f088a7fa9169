/* QEMU's Xtensa machine `sim`: a serial line through the simulator's own calls, and a counter of instructions.
 * Its one memory at 0xFE000000 stands in for a microcontroller's flash: the memory management unit lets nobody write
 * there. RAM begins at address 0, so that a stack that overflows wraps into that, and faults. */
#include "start.h"

#define CALL_READ 3
#define CALL_WRITE 4
#define STDIN 0
#define STDOUT 1
#define FLASH_ENTRY (ML_FLASH_PAGE | 6u) /* of the data TLB, in its way 6: eight pages of 512 MB */
#define ML_FLASH_PAGE 0xE0000000u
#define READ_EXECUTE 1u

_Noreturn void ml_power_on(void);

/* The SIMCALL instruction, by its code: assemblers leave it out. Returns how many bytes were moved, or -1. */
static int32_t simulator(int32_t call, int32_t file, const void *bytes, uint32_t count) {
    register int32_t a2 __asm__("a2") = call;
    register int32_t a3 __asm__("a3") = file;
    register const void *a4 __asm__("a4") = bytes;
    register uint32_t a5 __asm__("a5") = count;
    __asm__ volatile(".byte 0x00, 0x51, 0x00" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

int32_t ml_port_read(void) {
    uint8_t byte = 0;
    return simulator(CALL_READ, STDIN, &byte, 1) == 1 ? byte : -1;
}

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    while (count) {
        const int32_t sent = simulator(CALL_WRITE, STDOUT, bytes, count);
        if (sent <= 0) continue;
        bytes += sent;
        count -= (uint32_t)sent;
    }
}

/* 40 MHz, and an instruction takes 128 ns (-icount shift=7). */
uint32_t ml_port_ticks(void) {
    uint32_t ticks;
    __asm__ volatile("rsr %0, ccount" : "=r"(ticks));
    return ticks;
}

/* The machine has no means to reset itself; ml_power_on does what counts of it. */
_Noreturn void ml_port_reset(void) { ml_power_on(); }

static void protect_flash(void) {
    __asm__ volatile("wdtlb %0, %1\n dsync" ::"r"(ML_FLASH_PAGE | READ_EXECUTE), "r"(FLASH_ENTRY));
}

void ml_port_init(void) { protect_flash(); }
