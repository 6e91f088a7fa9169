/* Frames on a byte stream: a body and its CRC-32, byte-stuffed (COBS) between zero bytes. sdk/link/frames.py is the
 * same for the host and says where the algorithms come from. */
#ifndef ML_FRAME_H
#define ML_FRAME_H

#include <stdint.h>

/* A receiver; all zero but `bytes` and `capacity` to begin. */
typedef struct ml_frame_receiver {
    uint8_t *bytes; /* where frames are put, CRC included */
    uint32_t capacity;
    uint32_t count; /* bytes so far */
    uint8_t left; /* bytes that the current block still brings */
    uint8_t zero_due; /* the current block stands for a zero after it, if another block follows */
    uint8_t damaged; /* this frame is too long or cut: wait for the next */
} ml_frame_receiver;

/* Takes one byte from the stream. Returns the size of the body in `receiver->bytes` if the byte completes a sound
 * frame, else 0. The body stays until the next call. */
uint32_t ml_frame_receive(ml_frame_receiver *receiver, uint8_t byte);

/* Sends the `count` bytes at `body` as a frame through ml_port_write(). Writes their CRC-32 behind them: there must be
 * room for ML_LINK_CRC_BYTES more. */
void ml_frame_send(uint8_t *body, uint32_t count);

#endif
