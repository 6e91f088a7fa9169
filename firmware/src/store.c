#include "store.h"

#if defined(ML_PROGRAMS_BYTES)

#include <stdbool.h>
#include <string.h>

#include "microlith.h"
#include "ml_messages.h"
#include "port.h"

_Static_assert(ML_PROGRAMS_ERASE_BYTES % ML_LINK_FLASH_PAGE_BYTES == 0, "a block is erased whole and written in pages");

#define ATTEMPTS 3u /* flash that is slow or worn may need a second one */

/* From the linker script: what the image has in flash ends with the initial values of its variables. */
extern const uint8_t ml_data_load[], ml_data_start[], ml_data_end[];

static const uint8_t *stored(uint32_t offset) { return (const uint8_t *)(uintptr_t)(ML_PROGRAMS_ORIGIN + offset); }

/* The region may be the end of the image's own. */
uint32_t ml_store_bytes(void) {
    const uint32_t variables = (uint32_t)((uintptr_t)ml_data_end - (uintptr_t)ml_data_start);
    const uint32_t image_end = (uint32_t)(uintptr_t)ml_data_load + variables;
    return image_end - 1u - ML_PROGRAMS_ORIGIN < ML_PROGRAMS_BYTES ? 0 : ML_PROGRAMS_BYTES;
}

static bool inside(uint32_t offset, uint32_t count) {
    const uint32_t bytes = ml_store_bytes();
    return offset <= bytes && count <= bytes - offset;
}

const uint8_t *ml_store_program(uint32_t image_crc) {
    uint32_t mark[2];
    memcpy(mark, stored(0), sizeof mark);
    const bool mine = ml_store_bytes() != 0 && mark[0] == ML_LINK_UPDATE_MAGIC && mark[1] == image_crc;
    return mine ? stored(ML_LINK_FLASH_PAGE_BYTES) : NULL;
}

static bool is_erased(uint32_t offset) {
    const uint8_t *byte = stored(offset), *end = stored(offset + ML_PROGRAMS_ERASE_BYTES);
    while (byte != end && *byte == 0xFFu) byte++;
    return byte == end;
}

int32_t ml_store_erase(uint32_t offset) {
    if (offset % ML_PROGRAMS_ERASE_BYTES != 0 || !inside(offset, ML_PROGRAMS_ERASE_BYTES)) return ML_LINK_ERR_RANGE;
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        ml_port_flash_erase(ML_PROGRAMS_ORIGIN + offset);
        if (is_erased(offset)) return ML_OK;
    }
    return ML_LINK_ERR_FLASH;
}

int32_t ml_store_write(uint32_t offset, const uint8_t *bytes, uint32_t count) {
    if ((offset | count) % ML_LINK_FLASH_PAGE_BYTES != 0 || !inside(offset, count)) return ML_LINK_ERR_RANGE;
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        ml_port_flash_write(ML_PROGRAMS_ORIGIN + offset, bytes, count);
        if (memcmp(stored(offset), bytes, count) == 0) return ML_OK;
    }
    return ML_LINK_ERR_FLASH;
}

#else
typedef int ml_no_store; /* a translation unit may not be empty */
#endif
