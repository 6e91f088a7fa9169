/* What the boot ROM looks for in the flash before it starts an image. The RP2040 (datasheet, 2.8.1) wants 256 bytes of
 * code that set the flash interface up, ended by their checksum: CRC-32 as in MPEG-2, which a test computes anew. The
 * RP2350 (datasheet, 5.9.5.1) sets it up by itself and wants to be told that this is an image for its Arm cores. */

#if defined(__ARM_ARCH_6M__)

/* Runs from RAM. Reads with the command 03h at a quarter of the core's clock, which every serial flash understands, and
 * then starts the image through the vector table behind these 256 bytes. Assembly, so that no compiler changes the
 * checksum: registers of the synchronous serial interface at 0x18000000 (datasheet, 4.10.13). */
__asm__(".syntax unified\n"
        ".thumb\n"
        ".pushsection .header, \"ax\", %progbits\n"
        ".balign 4\n"
        "ml_boot2:\n"
        "ldr r3, 2f\n"
        "movs r0, #0\n"
        "str r0, [r3, #0x08]\n" /* SSIENR: off, to be set up */
        "movs r1, #4\n"
        "str r1, [r3, #0x14]\n" /* BAUDR */
        "ldr r1, 3f\n"
        "str r1, [r3, #0x00]\n" /* CTRLR0 */
        "str r0, [r3, #0x04]\n" /* CTRLR1: one word a transfer */
        "ldr r1, 4f\n"
        "movs r2, #0xF4\n"
        "str r1, [r3, r2]\n" /* SPI_CTRLR0 */
        "movs r1, #1\n"
        "str r1, [r3, #0x08]\n" /* SSIENR: on */
        "ldr r0, 5f\n"
        "ldr r1, 6f\n"
        "str r0, [r1]\n" /* VTOR */
        "ldmia r0, {r0, r1}\n"
        "msr msp, r0\n"
        "bx r1\n"
        ".balign 4\n"
        "2: .word 0x18000000\n"
        "3: .word 0x001F0300\n" /* one data line, words of 32 bits, a command and an address before what is read */
        "4: .word 0x03000218\n" /* command 03h of 8 bits, address of 24, both on one line */
        "5: .word 0x10000100\n"
        "6: .word 0xE000ED08\n"
        ".org ml_boot2 + 252\n"
        ".word 0xF858FD5F\n"
        ".popsection\n");
typedef int ml_boot2_is_assembly; /* a translation unit may not be empty */

#else

#include <stdint.h>

extern const uint32_t ml_image_definition[];

/* Within the first 4 KB. There is no other block: it is its own successor. The vector table begins the image. */
__attribute__((section(".early"), used)) const uint32_t ml_image_definition[] = {
    0xFFFFDED3u, /* a block begins */
    0x10210142u, /* an item of one word: executable, secure, Arm, RP2350 */
    0x000001FFu, /* last item; one word before it */
    0x00000000u, /* distance to the next block */
    0xAB123579u, /* the block ends */
};

#endif
