/* Access to control and status registers, which -march does not name on every compiler. */
#ifndef ML_RISCV_H
#define ML_RISCV_H

#define WITH_CSRS(instruction) ".option push\n.option arch, +zicsr\n" instruction "\n.option pop"
#define READ_CSR(name, value) __asm__ volatile(WITH_CSRS("csrr %0, " name) : "=r"(value))
#define WRITE_CSR(name, value) __asm__ volatile(WITH_CSRS("csrw " name ", %0")::"r"(value))

#endif
