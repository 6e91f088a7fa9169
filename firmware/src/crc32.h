/* The checksum of programs and of frames on the serial line. */
#ifndef ML_CRC32_H
#define ML_CRC32_H

#include <stdint.h>

/* CRC-32 (IEEE 802.3, as in zlib) of `count` bytes, continued from `crc`; 0 to begin. */
uint32_t ml_crc32(uint32_t crc, const uint8_t *bytes, uint32_t count);

#endif
