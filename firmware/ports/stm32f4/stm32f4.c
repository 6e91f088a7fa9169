/* STMicroelectronics STM32F4. What it has in common with the STM32F7, and that is nearly all, is in stm32f4_f7.h. */
#define STM32_FLASH_CACHES (3u << 9) /* of instructions and of data */
#include "stm32f4_f7.h"

void ml_port_init(void) { stm32_init(); }
