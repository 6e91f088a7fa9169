#include "port.h"
#include "server.h"

_Noreturn void ml_main(void) {
    ml_server_start();
    for (;;) {
        const int32_t byte = ml_port_read();
        if (byte >= 0) ml_server_receive((uint8_t)byte);
    }
}
