/* What differs between ESP32, ESP32-S3 and ESP32-C3: addresses of registers (technical reference manuals) and of
 * functions in the chips' ROM (their linker scripts in ESP-IDF). All have a crystal of 40 MHz. */
#ifndef ML_ESP32_CHIP_H
#define ML_ESP32_CHIP_H

#include "registers.h"

#define XTAL_HZ 40000000u
#define ROM_FUNCTION(result, address, ...) ((result(*)(__VA_ARGS__))(uintptr_t)(address))

#if defined(ML_ESP32)

#define RTC_CNTL 0x3FF48000u
#define RTC_CLK_CONF ML_REGISTER(RTC_CNTL + 0x70u)
#define RTC_REGULATOR ML_REGISTER(RTC_CNTL + 0x7Cu)
#define RTC_WDT (RTC_CNTL + 0x8Cu)
#define RTC_WDT_PROTECT (RTC_CNTL + 0xA4u)
#define TIMER_GROUP_0 0x3FF5F000u
#define TIMER_GROUP_1 0x3FF60000u
#define CPU_PERIOD ML_REGISTER(0x3FF0003Cu)
#define CACHE_BUSES_OFF ML_REGISTER(0x3FF00044u)
#define MMU_TABLE 0x3FF10000u
#define MMU_PAGES 64u /* of data; of instructions there are more */
#define MMU_NO_PAGE 0x100u
#define FLASH_VIEW 0x3F400000u /* the flash from its first byte on, as the data bus sees it */
#define SPI_CTRL ML_REGISTER(0x3FF43008u)
#define SPI_CTRL2 ML_REGISTER(0x3FF43014u)
#define SPI_USER ML_REGISTER(0x3FF4301Cu)
#define SPI_USER1 ML_REGISTER(0x3FF43020u)
#define SPI_CS_HOLD_AND_SETUP 0x30u
#define SPI_CS_TIMES 0xFFu
#define SPI_CS_HOLD_1 0x10u
/* The controller of the flash that commands go through; the other one serves the cache. */
#define SPI_1 0x3FF42000u
#define SPI_1_STATUS ML_REGISTER(SPI_1 + 0x10u)
#define SPI_1_USER ML_REGISTER(SPI_1 + 0x1Cu)
#define SPI_1_USER1 ML_REGISTER(SPI_1 + 0x20u)
#define SPI_1_DATA(i) ML_REGISTER(SPI_1 + 0x80u + 4u * (i))
#define UART 0x3FF40000u
#define UART_FIFO_WRITE ML_REGISTER(0x60000000u) /* the other address loses bytes */
#define UART_SCLK_HZ 80000000u
#define UART_COUNT_MASK 0xFFu
#define ANALOG_WRITE ROM_FUNCTION(void, 0x400041A4u, uint8_t, uint8_t, uint8_t, uint8_t)
#define PLL_HOST 4u

#elif defined(ML_ESP32S3) || defined(ML_ESP32C3)

#define RTC_CNTL 0x60008000u
#define TIMER_GROUP_0 0x6001F000u
#define TIMER_GROUP_1 0x60020000u
#define EXTMEM 0x600C4000u
#define MMU_TABLE 0x600C5000u
#define ANALOG_CONF ML_REGISTER(0x6000E040u)
#define ANALOG_ENABLE ML_REGISTER(0x6000E044u)
#define FLASH_VIEW 0x3C000000u
#define SPI_CTRL ML_REGISTER(0x60003008u)
#define SPI_CTRL2 ML_REGISTER(0x60003010u)
#define SPI_USER ML_REGISTER(0x60003018u)
#define SPI_CS_HOLD_AND_SETUP 0xC0u
#define SPI_CS_TIMES 0x3FFu
#define SPI_1 0x60002000u
#define SPI_1_STATUS ML_REGISTER(SPI_1 + 0x2Cu)
#define SPI_1_USER ML_REGISTER(SPI_1 + 0x18u)
#define SPI_1_USER1 ML_REGISTER(SPI_1 + 0x1Cu)
#define SPI_1_DATA(i) ML_REGISTER(SPI_1 + 0x58u + 4u * (i))
#define UART 0x60000000u
#define UART_FIFO_WRITE ML_REGISTER(UART)
#define UART_CLK_CONF ML_REGISTER(UART + 0x78u)
#define UART_UPDATE ML_REGISTER(UART + 0x80u)
#define UART_DIVISION (ML_BAUD <= 115200u ? 10u : 1u) /* leaves 34 clocks a bit, or more */
#define UART_SCLK_HZ (XTAL_HZ / UART_DIVISION)
#define UART_COUNT_MASK 0x3FFu
#define PLL_HOST 1u

#if defined(ML_ESP32S3)
#define RTC_WDT (RTC_CNTL + 0x98u)
#define RTC_WDT_PROTECT (RTC_CNTL + 0xB0u)
#define SUPER_WDT ML_REGISTER(RTC_CNTL + 0xB4u)
#define SUPER_WDT_PROTECT ML_REGISTER(RTC_CNTL + 0xB8u)
#define OTHER_CORE_ENTRY ML_REGISTER(0x600C0004u)
#define CPU_PERIOD ML_REGISTER(0x600C0010u)
#define CPU_CLOCK ML_REGISTER(0x600C0060u)
#define MMU_PAGES 512u
#define MMU_NO_PAGE 0x4000u
#define USB_SERIAL 0x60038000u
#define ANALOG_WRITE ROM_FUNCTION(void, 0x40005D60u, uint8_t, uint8_t, uint8_t, uint8_t)
#define ANALOG_WRITE_BITS ROM_FUNCTION(void, 0x40005D6Cu, uint8_t, uint8_t, uint8_t, uint8_t, uint8_t, uint8_t)
#else
#define RTC_WDT (RTC_CNTL + 0x90u)
#define RTC_WDT_PROTECT (RTC_CNTL + 0xA8u)
#define SUPER_WDT ML_REGISTER(RTC_CNTL + 0xACu)
#define SUPER_WDT_PROTECT ML_REGISTER(RTC_CNTL + 0xB0u)
#define CPU_PERIOD ML_REGISTER(0x600C0008u)
#define CPU_CLOCK ML_REGISTER(0x600C0058u)
#define MMU_PAGES 128u
#define MMU_NO_PAGE 0x100u
#define USB_SERIAL 0x60043000u
#define ANALOG_WRITE ROM_FUNCTION(void, 0x4000195Cu, uint8_t, uint8_t, uint8_t, uint8_t)
#define ANALOG_WRITE_BITS ROM_FUNCTION(void, 0x40001960u, uint8_t, uint8_t, uint8_t, uint8_t, uint8_t, uint8_t)
#endif

#else
#error "the board's extra_flags name the chip: -DML_ESP32, -DML_ESP32S3 or -DML_ESP32C3"
#endif

#define RTC_OPTIONS ML_REGISTER(RTC_CNTL)
#define OPTIONS_PLL_OFF (1u << 10 | 1u << 8 | 1u << 6)
#define OPTIONS_RESET (1u << 31)

#define SPI_1_COMMAND ML_REGISTER(SPI_1)
#define SPI_1_ADDRESS ML_REGISTER(SPI_1 + 4u)

#define UART_FIFO_READ ML_REGISTER(UART)
#define UART_CLKDIV ML_REGISTER(UART + 0x14u)
#define UART_STATUS ML_REGISTER(UART + 0x1Cu)
#define UART_FIFO_BYTES 128u

/* Both for code in `iram` only: without the map there is no other. */
void esp_unmap_flash(void);
void esp_map_flash(void);

/* Of the core. */
static inline uint32_t esp_cycles(void) {
    uint32_t cycles;
#if defined(__XTENSA__)
    __asm__ volatile("rsr %0, ccount" : "=r"(cycles));
#else
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, 0x7E2\n.option pop" : "=r"(cycles));
#endif
    return cycles;
}

/* At least that long, whatever the clock. */
static inline void esp_wait_us(uint32_t us) {
    const uint32_t start = esp_cycles();
    while (esp_cycles() - start < us * (ML_CLOCK_HZ / 1000000u)) {
    }
}

#endif
