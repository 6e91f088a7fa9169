/* The device's framing behind a plain interface, for tests/test_frames.py. */
#include <string.h>

#include "frame.h"
#include "port.h"

static uint8_t body[4096];
static ml_frame_receiver receiver;
static uint8_t *sent;
static uint32_t sent_bytes;

void harness_start(uint32_t capacity);
uint32_t harness_receive(const uint8_t *data, uint32_t count, uint8_t *bodies);
uint32_t harness_send(const uint8_t *data, uint32_t count, uint8_t *wire);

void ml_port_write(const uint8_t *bytes, uint32_t count) {
    memcpy(sent + sent_bytes, bytes, count);
    sent_bytes += count;
}

void harness_start(uint32_t capacity) { receiver = (ml_frame_receiver){.bytes = body, .capacity = capacity}; }

/* Feeds `count` bytes; puts each body that they complete into `bodies`, behind its size. Returns the bytes put. */
uint32_t harness_receive(const uint8_t *data, uint32_t count, uint8_t *bodies) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t size = ml_frame_receive(&receiver, data[i]);
        if (size != 0) {
            memcpy(bodies + used, &size, sizeof size);
            memcpy(bodies + used + sizeof size, body, size);
            used += (uint32_t)sizeof size + size;
        }
    }
    return used;
}

uint32_t harness_send(const uint8_t *data, uint32_t count, uint8_t *wire) {
    static uint8_t frame[4096 + 4];
    memcpy(frame, data, count);
    sent = wire;
    sent_bytes = 0;
    ml_frame_send(frame, count);
    return sent_bytes;
}
