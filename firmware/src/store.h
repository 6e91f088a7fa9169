/* The flash for programs that come after the image: the region `programs` of the board's file. Its first page says to
 * which image the program behind it belongs. Boards without such a region have none of these. */
#ifndef ML_STORE_H
#define ML_STORE_H

#include <stdint.h>

/* Size of the region; 0 where the image reaches into it. */
uint32_t ml_store_bytes(void);

/* What may be a program, for the image whose own program has this CRC-32; null if there is none. It can take all of the
 * region behind the first page, and is as damaged as whoever wrote it has left it. */
const uint8_t *ml_store_program(uint32_t image_crc);

/* Erase the block at `offset`, write whole pages. ML_OK or an ML_LINK_ERR. */
int32_t ml_store_erase(uint32_t offset);
int32_t ml_store_write(uint32_t offset, const uint8_t *bytes, uint32_t count);

#endif
