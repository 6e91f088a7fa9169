/* The serial server: answers the requests of sdk/link/messages.py. One board has one server, so its state is static. */
#ifndef ML_SERVER_H
#define ML_SERVER_H

#include <stdint.h>

/* Prepares the server. Call once, before ml_server_receive(). */
void ml_server_start(void);

/* Takes one byte from the line; answers through ml_port_write() if it completes a request. */
void ml_server_receive(uint8_t byte);

#endif
