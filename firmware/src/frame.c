#include "frame.h"

#include "crc32.h"
#include "ml_messages.h"
#include "port.h"

#define RUN_MAX 254u /* data bytes that one COBS block can carry */

/* CRC-32 of a block that ends with its own little-endian CRC-32, whatever it holds. */
#define CRC_RESIDUE 0x2144df1cu

static void put(ml_frame_receiver *receiver, uint8_t byte) {
    if (receiver->count < receiver->capacity) {
        receiver->bytes[receiver->count++] = byte;
    } else {
        receiver->damaged = 1;
    }
}

/* A zero byte came: the frame is complete, or cut. */
static uint32_t close_frame(ml_frame_receiver *receiver) {
    const uint32_t count = receiver->count;
    const int sound = !receiver->damaged && receiver->left == 0 && count >= ML_LINK_HEADER_BYTES + ML_LINK_CRC_BYTES &&
                      ml_crc32(0, receiver->bytes, count) == CRC_RESIDUE;
    receiver->count = 0;
    receiver->left = 0;
    receiver->zero_due = 0;
    receiver->damaged = 0;
    return sound ? count - ML_LINK_CRC_BYTES : 0;
}

uint32_t ml_frame_receive(ml_frame_receiver *receiver, uint8_t byte) {
    if (byte == 0) return close_frame(receiver);
    if (receiver->left != 0) {
        receiver->left--;
        put(receiver, byte);
    } else { /* the code of the next block: 1 + the length of its run */
        if (receiver->zero_due) put(receiver, 0);
        receiver->left = (uint8_t)(byte - 1u);
        receiver->zero_due = byte <= RUN_MAX;
    }
    return 0;
}

void ml_frame_send(uint8_t *body, uint32_t count) {
    static const uint8_t DELIMITER = 0;
    const uint32_t crc = ml_crc32(0, body, count);
    for (uint32_t i = 0; i < ML_LINK_CRC_BYTES; i++) body[count++] = (uint8_t)(crc >> (8u * i));
    ml_port_write(&DELIMITER, 1);
    for (uint32_t at = 0;;) {
        uint32_t run = 0;
        while (run < RUN_MAX && at + run < count && body[at + run] != 0) run++;
        const uint8_t code = (uint8_t)(run + 1u);
        ml_port_write(&code, 1);
        ml_port_write(body + at, run);
        at += run;
        if (at == count) break;
        if (run < RUN_MAX) at++; /* the zero that the block's end stands for */
    }
    ml_port_write(&DELIMITER, 1);
}
