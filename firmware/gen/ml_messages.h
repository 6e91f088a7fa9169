/* Generated from sdk/link/messages.py: do not edit. The requests of the serial protocol and their replies. */
#ifndef ML_MESSAGES_H
#define ML_MESSAGES_H

#include <stdint.h>

#define ML_PROTOCOL_VERSION 1u
#define ML_LINK_HEADER_BYTES 4u
#define ML_LINK_CRC_BYTES 4u
#define ML_LINK_MIN_FRAME_BYTES 128u
#define ML_LINK_MAX_FRAME_BYTES 4096u
#define ML_LINK_MAX_BOARD_ID_BYTES 32u
#define ML_LINK_REPLY 0x80u
#define ML_LINK_SOURCE_RESIDENT 0u
#define ML_LINK_SOURCE_UPLOADED 1u
#define ML_LINK_DIRECTION_INPUT 0u
#define ML_LINK_DIRECTION_OUTPUT 1u
#define ML_LINK_READ_OUTPUT 0u
#define ML_LINK_READ_REGION 1u

/* What a reply's status says beyond ml_status. */
enum {
    ML_LINK_ERR_KIND = 1, /* the device does not know this request */
    ML_LINK_ERR_LENGTH = 2, /* the request has another length than its kind asks for */
    ML_LINK_ERR_SESSION = 3, /* the request belongs to no session: the device has restarted since the host said hello */
    ML_LINK_ERR_RANGE = 4, /* an index, offset or count lies outside what it names */
    ML_LINK_ERR_CLOSED = 5, /* no program is open */
    ML_LINK_ERR_MISSING = 6, /* there is no such program: none in the image, or its upload is not complete */
    ML_LINK_ERR_MEMORY = 7, /* the program and the memory it needs do not fit into the device's pool */
    ML_LINK_ERR_STACK = 8, /* the stack has overflowed: results and memory can no longer be trusted until the device reboots */
};

typedef struct ml_link_header {
    uint16_t sequence;
    uint8_t kind;
    int8_t status;
} ml_link_header;

/* name, number, words of the request, words of the reply, whether the request has a tail */
#define ML_MESSAGES(X) \
    X(hello, 1, 0, 10, 0) \
    X(kernels, 2, 1, 0, 0) \
    X(load, 3, 2, 0, 1) \
    X(open, 4, 2, 9, 0) \
    X(describe, 5, 2, 5, 0) \
    X(write, 6, 2, 0, 1) \
    X(invoke, 7, 0, 2, 0) \
    X(step, 8, 1, 2, 0) \
    X(read, 9, 4, 0, 0) \
    X(reset, 10, 0, 0, 0) \
    X(stack, 11, 1, 1, 0) \
    X(reboot, 12, 0, 0, 0)

enum {
    ML_LINK_HELLO = 1,
    ML_LINK_KERNELS = 2,
    ML_LINK_LOAD = 3,
    ML_LINK_OPEN = 4,
    ML_LINK_DESCRIBE = 5,
    ML_LINK_WRITE = 6,
    ML_LINK_INVOKE = 7,
    ML_LINK_STEP = 8,
    ML_LINK_READ = 9,
    ML_LINK_RESET = 10,
    ML_LINK_STACK = 11,
    ML_LINK_REBOOT = 12,
};

/* HELLO: Starts a session with this frame's sequence number and closes what an earlier one had open. */
typedef struct ml_hello_reply {
    uint32_t protocol_version; /* of these messages */
    uint32_t format_version; /* of the programs that the image runs */
    uint32_t profile; /* number of the kernel profile */
    uint32_t frame_bytes; /* longest frame before byte stuffing, header and CRC included */
    uint32_t pool_bytes; /* RAM for uploaded programs and the memory of the open one */
    uint32_t stack_bytes; /* RAM reserved for the stack */
    uint32_t resident_bytes; /* size of the program in the image, 0 if there is none */
    uint32_t resident_crc; /* CRC-32 that the program in the image carries */
    uint32_t kernel_count; /* number of kernels in the image */
    uint32_t counter_runs; /* 1 if the tick counter counts */
} ml_hello_reply;
/* The reply's tail: the board's id, UTF-8. */

/* KERNELS: Lists the numbers of the kernels in the image, as many as a frame holds. */
typedef struct ml_kernels_request {
    uint32_t first; /* position in the list to start from */
} ml_kernels_request;
/* The reply's tail: kernel numbers, u16 each. */

/* LOAD: Uploads a program to the end of the pool, chunk after chunk. Offset 0 begins and closes the open program. */
typedef struct ml_load_request {
    uint32_t total_bytes; /* size of the whole program */
    uint32_t offset; /* where this chunk goes: where the last one ended */
} ml_load_request;
/* The request's tail: the chunk. */

/* OPEN: Checks a program, lends it memory from the start of the pool, and starts it. */
typedef struct ml_open_request {
    uint32_t source; /* 0 the program in the image, 1 the uploaded one */
    uint32_t check_crc; /* 1 to check its CRC-32 too */
} ml_open_request;
typedef struct ml_open_reply {
    uint32_t failed_step; /* the step that the status belongs to */
    uint32_t arena_bytes; /* activations and scratch */
    uint32_t fast_bytes; /* the second arena */
    uint32_t state_bytes; /* variables */
    uint32_t input_count; /* number of inputs */
    uint32_t output_count; /* number of outputs */
    uint32_t step_count; /* number of steps */
    uint32_t open_ticks; /* cost of ml_open */
    uint32_t start_ticks; /* cost of ml_start */
} ml_open_reply;

/* DESCRIBE: Describes an input or output of the open program. */
typedef struct ml_describe_request {
    uint32_t direction; /* 0 input, 1 output */
    uint32_t index; /* which one */
} ml_describe_request;
typedef struct ml_describe_reply {
    uint32_t bytes; /* size of its data */
    uint32_t dtype; /* an ml_dtype */
    uint32_t scale; /* bits of a float32; 0 if not quantized */
    uint32_t zero_point; /* bits of an int32 */
    uint32_t rank; /* number of dimensions */
} ml_describe_reply;
/* The reply's tail: the dimensions, u32 each, outermost first; then the name, UTF-8, cut to the frame. */

/* WRITE: Writes to an input. */
typedef struct ml_write_request {
    uint32_t index; /* which input */
    uint32_t offset; /* first byte */
} ml_write_request;
/* The request's tail: the bytes. */

/* INVOKE: Runs all steps. */
typedef struct ml_invoke_reply {
    uint32_t failed_step; /* the step that the status belongs to */
    uint32_t ticks; /* cost of ml_invoke */
} ml_invoke_reply;

/* STEP: Runs one step. */
typedef struct ml_step_request {
    uint32_t step; /* which one */
} ml_step_request;
typedef struct ml_step_reply {
    uint32_t next; /* the step after it; step_count at the end */
    uint32_t ticks; /* cost of the step */
} ml_step_reply;

/* READ: Reads from an output, or from a region of the open program's memory. */
typedef struct ml_read_request {
    uint32_t source; /* 0 an output, 1 a region */
    uint32_t index; /* which output, or the region's number in the program format */
    uint32_t offset; /* first byte */
    uint32_t count; /* how many bytes */
} ml_read_request;
/* The reply's tail: the bytes. */

/* RESET: Puts the state of the open program back to its initial values. */

/* STACK: Tells how much of the stack was ever used since it was painted. */
typedef struct ml_stack_request {
    uint32_t repaint; /* 1 to paint what is free now, after measuring */
} ml_stack_request;
typedef struct ml_stack_reply {
    uint32_t used_bytes; /* high-water mark */
} ml_stack_reply;

/* REBOOT: Restarts the device, after the reply. */

#endif
