/* Writes the flash that the code runs from: the linker puts this file into internal RAM, beside boot.c, and it calls
 * nothing but that. The ROM's own functions for this keep their variables in RAM that belongs to programs. */
#include "chip.h"
#include "port.h"

#define COMMAND_STATUS (1u << 27)
#define COMMAND_WRITE_ENABLE (1u << 30)
#define COMMAND_ERASE_SECTOR (1u << 24)
#define COMMAND_PROGRAM (1u << 25)
#define STATUS_BUSY 1u
#define USER_DUMMY (1u << 29)
#define CHUNK_BYTES 32u /* as many as are sent at once */

static void command(uint32_t bits) {
    SPI_1_COMMAND = bits;
    while (SPI_1_COMMAND != 0) {
    }
}

static void await_flash(void) {
    do {
        SPI_1_STATUS = 0;
        command(COMMAND_STATUS);
    } while (SPI_1_STATUS & STATUS_BUSY);
}

/* Runs a command that changes the flash, at `address` in it. One line, 24 bits of address, no dummy cycles. */
static void change(uint32_t bits, uint32_t address) {
    SPI_1_USER &= ~USER_DUMMY;
    SPI_1_USER1 = (SPI_1_USER1 & 0x03FFFFFFu) | 23u << 26;
    await_flash();
    command(COMMAND_WRITE_ENABLE);
    SPI_1_ADDRESS = address;
    command(bits);
    await_flash();
}

/* The page of the cache that is to change is read anew when its entry comes back. */
static uint32_t unmap(uint32_t address) {
    esp_unmap_flash();
    ML_REGISTER(MMU_TABLE + 4u * ((address - FLASH_VIEW) >> 16)) = MMU_NO_PAGE;
    esp_wait_us(10); /* what the cache has begun to read comes to its end */
    return address - FLASH_VIEW;
}

void ml_port_flash_erase(uint32_t address) {
    change(COMMAND_ERASE_SECTOR, unmap(address));
    esp_map_flash();
}

void ml_port_flash_write(uint32_t address, const uint8_t *bytes, uint32_t count) {
    const uint32_t *word = (const uint32_t *)(const void *)bytes;
    const uint32_t start = unmap(address);
    for (uint32_t at = start; at < start + count; at += CHUNK_BYTES) {
        for (uint32_t i = 0; i < CHUNK_BYTES / 4u; i++) SPI_1_DATA(i) = *word++;
        change(COMMAND_PROGRAM, at | CHUNK_BYTES << 24);
    }
    esp_map_flash();
}
