/* From the chip's ROM to code in flash. The linker puts this file into internal RAM, where the ROM loads it to: it may
 * call nothing but itself and the ROM until the flash is mapped, and its constants are words, which is all that the
 * ESP32 reads there. The order of steps is that of ESP-IDF's boot loader. */
#include "chip.h"
#include "start.h"

#define WATCHDOG_KEY 0x50D83AA1u
#define FLASH_PAGES (ML_FLASH_BYTES / 0x10000u + 1u) /* of 64 KB; the first holds this code */
_Static_assert(FLASH_PAGES <= MMU_PAGES,
               "the board's file has more flash than the chip maps: shorten the region flash");
#if defined(ML_ESP32)
_Static_assert(ML_CLOCK_HZ == 240000000u, "build.f_cpu: 240 MHz");
#elif defined(ML_ESP32S3)
_Static_assert(ML_CLOCK_HZ == 80000000u || ML_CLOCK_HZ == 160000000u || ML_CLOCK_HZ == 240000000u,
               "build.f_cpu: 80, 160 or 240 MHz");
#else
_Static_assert(ML_CLOCK_HZ == 80000000u || ML_CLOCK_HZ == 160000000u, "build.f_cpu: 80 or 160 MHz");
#endif

static void watchdog_off(uint32_t config, uint32_t protect) {
    ML_REGISTER(protect) = WATCHDOG_KEY;
    ML_REGISTER(config) = 0;
    ML_REGISTER(protect) = 0;
}

/* The ROM leaves watchdogs running, for a boot loader that hangs. */
static void watchdogs_off(void) {
    watchdog_off(RTC_WDT, RTC_WDT_PROTECT);
    watchdog_off(TIMER_GROUP_0 + 0x48u, TIMER_GROUP_0 + 0x64u);
    watchdog_off(TIMER_GROUP_1 + 0x48u, TIMER_GROUP_1 + 0x64u);
#if !defined(ML_ESP32)
    SUPER_WDT_PROTECT = 0x8F1D312Au;
    SUPER_WDT |= 1u << 31; /* feeds itself */
    SUPER_WDT_PROTECT = 0;
#endif
}

#if defined(ML_ESP32S3)
/* For the other core: where its clock runs, it asks a register for work without an end, and takes the bus from the core
 * that has some. */
static _Noreturn void sleep_for_ever(void) {
    for (;;) __asm__ volatile("waiti 15");
}
#endif

static void pll_write(uint8_t number, uint8_t value) { ANALOG_WRITE(0x66, PLL_HOST, number, value); }

#if defined(ML_ESP32)

/* PLL at 480 MHz, core at half of it, peripherals at 80 MHz. */
static void clock_to_full_speed(void) {
    RTC_OPTIONS &= ~(1u << 18 | OPTIONS_PLL_OFF);
    pll_write(0, 0x18);
    pll_write(1, 0x20);
    pll_write(4, 0x9A);
    pll_write(10, 0x00);
    pll_write(12, 0x00);
    RTC_REGULATOR |= 7u << 11; /* the digital part at 1.25 V */
    esp_wait_us(3);
    pll_write(11, 0xC3);
    pll_write(9, 0x74);
    pll_write(2, 0x00);
    pll_write(3, 28);
    pll_write(5, 0xC6);
    esp_wait_us(80);
    CPU_PERIOD = 2;
    RTC_CLK_CONF = (RTC_CLK_CONF & ~(3u << 27)) | 1u << 27;
    esp_wait_us(10);
}

static void flash_timing(void) {
    SPI_USER |= SPI_CS_HOLD_AND_SETUP;
    SPI_CTRL2 = (SPI_CTRL2 & ~SPI_CS_TIMES) | SPI_CS_HOLD_1;
    if (SPI_CTRL & 1u << 23) { /* dual I/O: 24 bits of address, 4 of mode; one dummy cycle */
        SPI_USER1 = (SPI_USER1 & 0x03FFFF00u) | 27u << 26 | 1u;
    }
}

void esp_unmap_flash(void) { ROM_FUNCTION(void, 0x40009AB8u, uint32_t)(0); /* Cache_Read_Disable */ }

/* Instructions and data have tables of their own: 64 entries for 0x3F400000 on, 64 for 0x40000000 on, of which the
 * first 13 are no flash. Pages of 64 KB lie there as in the flash. */
void esp_map_flash(void) {
    esp_unmap_flash();
    ROM_FUNCTION(void, 0x40009A14u, uint32_t)(0); /* Cache_Flush */
    ROM_FUNCTION(void, 0x400095A4u, uint32_t)(0); /* mmu_init */
    for (uint32_t page = 0; page < FLASH_PAGES; page++) {
        ML_REGISTER(MMU_TABLE + 4u * page) = page;
        if (page < 51u) ML_REGISTER(MMU_TABLE + 4u * (77u + page)) = page;
    }
    CACHE_BUSES_OFF &= ~0x14u; /* data from 0x3F400000, instructions from 0x400C2000 */
    ROM_FUNCTION(void, 0x40009A84u, uint32_t)(0); /* Cache_Read_Enable */
}

#else

static void pll_write_bits(uint8_t number, uint8_t high, uint8_t low, uint8_t value) {
    ANALOG_WRITE_BITS(0x66, PLL_HOST, number, high, low, value);
}

static void pll_configure(void) {
    ANALOG_ENABLE &= ~(1u << 17);
    CPU_PERIOD |= 1u << 2; /* 480 MHz */
    ANALOG_CONF = (ANALOG_CONF & ~(1u << 2)) | 1u << 3; /* calibrates while it is set up */
    pll_write(4, 0x6B);
    pll_write(2, 5u << 4);
    pll_write(3, 8);
    pll_write_bits(5, 2, 0, 0);
    pll_write_bits(5, 6, 4, 0);
#if defined(ML_ESP32S3)
    pll_write(6, 0x73);
    pll_write_bits(9, 1, 0, 3);
    const uint32_t start = esp_cycles();
    while (!(ANALOG_CONF & 1u << 24) && esp_cycles() - start < ML_CLOCK_HZ / 1000u) {
    }
    esp_wait_us(10);
    ANALOG_CONF = (ANALOG_CONF & ~(1u << 3)) | 1u << 2;
#else
    pll_write(6, 0x93);
    pll_write_bits(9, 1, 0, 2);
    pll_write(6, 0x63);
    esp_wait_us(200);
#endif
}

static void clock_to_full_speed(void) {
    RTC_OPTIONS &= ~OPTIONS_PLL_OFF;
    pll_configure();
    ANALOG_WRITE_BITS(0x6D, 1, 4, 4, 0, 28); /* RTC and digital part at the voltage that full speed needs */
    ANALOG_WRITE_BITS(0x6D, 1, 6, 4, 0, 28);
    esp_wait_us(40);
    CPU_PERIOD = (CPU_PERIOD & ~3u) | (ML_CLOCK_HZ / 80000000u - 1u);
    CPU_CLOCK = 1u << 10; /* PLL, undivided */
}

static void flash_timing(void) {
    SPI_CTRL |= 1u << 3 | 3u << 18; /* drives the lines in dummy cycles, high */
    SPI_CTRL2 &= ~SPI_CS_TIMES;
    SPI_USER |= SPI_CS_HOLD_AND_SETUP;
}

/* One table serves both buses: entry n is page n behind 0x42000000 and 0x3C000000. */
static void set_mmu(void) {
    for (uint32_t page = 0; page < FLASH_PAGES; page++) ML_REGISTER(MMU_TABLE + 4u * page) = page;
}

#if defined(ML_ESP32S3)
void esp_unmap_flash(void) {
    ROM_FUNCTION(uint32_t, 0x4000186Cu, void)(); /* Cache_Disable_ICache */
    ROM_FUNCTION(uint32_t, 0x40001884u, void)(); /* Cache_Disable_DCache */
}

void esp_map_flash(void) {
    esp_unmap_flash();
    set_mmu();
    /* Size, ways and line of the caches for instructions and data, in bytes. */
    ROM_FUNCTION(void, 0x40001A1Cu, uint32_t, uint8_t, uint8_t)(0x4000, 8, 32);
    ROM_FUNCTION(void, 0x40001A28u, uint32_t, uint8_t, uint8_t)(0x8000, 8, 32);
    ROM_FUNCTION(void, 0x400016D4u, void)(); /* Cache_Invalidate_ICache_All */
    ROM_FUNCTION(void, 0x400016E0u, void)(); /* Cache_Invalidate_DCache_All */
    ML_REGISTER(EXTMEM + 0x04u) &= ~1u; /* the buses of core 0, for data */
    ML_REGISTER(EXTMEM + 0x64u) &= ~1u; /* and instructions */
    ROM_FUNCTION(void, 0x40001878u, uint32_t)(0); /* Cache_Enable_ICache */
    ROM_FUNCTION(void, 0x40001890u, uint32_t)(0); /* Cache_Enable_DCache */
}
#else
void esp_unmap_flash(void) { ROM_FUNCTION(uint32_t, 0x4000051Cu, void)(); /* Cache_Disable_ICache */ }

void esp_map_flash(void) {
    esp_unmap_flash();
    set_mmu();
    ROM_FUNCTION(void, 0x400004D8u, void)(); /* Cache_Invalidate_ICache_All */
    ML_REGISTER(EXTMEM + 0x04u) &= ~3u; /* both buses */
    ROM_FUNCTION(void, 0x40000520u, uint32_t)(0); /* Cache_Enable_ICache */
}
#endif

#endif

_Noreturn void ml_start_chip(void) {
#if !defined(__XTENSA__)
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrwi 0x7E0, 1\ncsrwi 0x7E1, 1\n.option pop"); /* cycles */
#endif
    watchdogs_off();
#if defined(ML_ESP32S3)
    OTHER_CORE_ENTRY = (uint32_t)(uintptr_t)sleep_for_ever;
#endif
    clock_to_full_speed();
    flash_timing();
    esp_map_flash();
    ml_start_core();
}
