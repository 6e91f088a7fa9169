#include "server.h"

#include <string.h>

#include "frame.h"
#include "kernel.h"
#include "microlith.h"
#include "ml_messages.h"
#include "port.h"
#include "store.h"

/* What the board's file says; the build passes it on. */
#if !defined(ML_BOARD_ID) || !defined(ML_FRAME_BYTES) || !defined(ML_PROFILE)
#error "the build defines ML_BOARD_ID (a string), ML_FRAME_BYTES and ML_PROFILE (a number) for the board"
#endif
_Static_assert(sizeof ML_BOARD_ID <= ML_LINK_MAX_BOARD_ID_BYTES + 1u, "the board's id is too long");
_Static_assert(ML_FRAME_BYTES >= ML_LINK_MIN_FRAME_BYTES && ML_FRAME_BYTES <= ML_LINK_MAX_FRAME_BYTES, "frame size");
_Static_assert(ML_FRAME_BYTES % 4u == 0, "frames are arrays of words");

#define ALIGNMENT 16u
#define CANARY_BYTES 16u /* of the stack's far end: their paint is gone when it has overflowed */
#define BODY_BYTES (ML_FRAME_BYTES - ML_LINK_CRC_BYTES)

/* The program in the image (model.c); 0 bytes if it holds none. On some boards another may lie in flash beside it. */
extern const uint8_t ml_model[];
extern const uint32_t ml_model_bytes;

/* One request being answered. The reply's words are zero and its tail empty until the handler fills them. */
typedef struct exchange {
    const void *request;
    const uint8_t *tail;
    uint32_t tail_bytes;
    void *reply;
    uint8_t *reply_tail;
    uint32_t reply_room; /* bytes that fit into the reply's tail */
    uint32_t reply_tail_bytes;
} exchange;

static struct {
    uint32_t received[ML_FRAME_BYTES / 4u];
    uint32_t sent[ML_FRAME_BYTES / 4u]; /* the last reply, kept to be sent again */
    ml_frame_receiver receiver;
    const uint8_t *resident; /* the program in flash: the image's own, or one that came after it */
    uint32_t resident_bytes;
    ml_session session; /* open while started is true */
    uint8_t *upload; /* where the upload begins, at the pool's end; null without one */
    uint32_t upload_bytes; /* whole size */
    uint32_t uploaded_bytes; /* how much of it has come */
    uint32_t counter_cost; /* ticks that an empty measurement takes */
    uint32_t sent_bytes;
    uint16_t sequence; /* of the last request */
    bool in_session;
    bool started;
    bool rebooting;
} server;

static uint32_t distance(const uint8_t *from, const uint8_t *to) { return (uint32_t)((uintptr_t)to - (uintptr_t)from); }

/* Ticks since `start` beyond what reading the counter twice costs. */
static uint32_t ticks_since(uint32_t start) {
    const uint32_t ticks = ml_port_ticks() - start;
    return ticks > server.counter_cost ? ticks - server.counter_cost : 0;
}

static uint32_t align_up(uint32_t bytes) { return (bytes + ALIGNMENT - 1u) & ~(ALIGNMENT - 1u); }

static bool inside(uint32_t size, uint32_t offset, uint32_t count) { return offset <= size && count <= size - offset; }

static void close_program(void) { server.started = false; }

/* The stack's high-water mark: all below the first byte that lost its paint was never used. */
static uint32_t stack_used(void) {
    const uint8_t *byte = ml_stack_start;
    while (byte != ml_stack_end && *byte == ML_STACK_PAINT) byte++;
    return distance(byte, ml_stack_end);
}

static bool stack_overflowed(void) {
    const uint8_t *byte = ml_stack_start;
    while (byte != ml_stack_end && byte != ml_stack_start + CANARY_BYTES && *byte == ML_STACK_PAINT) byte++;
    return byte != ml_stack_end && byte != ml_stack_start + CANARY_BYTES;
}

/* Paints what lies below this function's own frame, less a margin for the leaf that writes it and for interrupts. */
static void paint_stack(void) {
    uint8_t here;
    const uintptr_t top = (uintptr_t)&here - 128u;
    if (top < (uintptr_t)ml_stack_start || top > (uintptr_t)ml_stack_end) return; /* a host's stack lies elsewhere */
    for (volatile uint8_t *byte = ml_stack_start; (uintptr_t)byte < top; byte++) *byte = ML_STACK_PAINT;
}

/* The CRC-32 that a program carries; 0 if there is none. */
static uint32_t crc_of(const uint8_t *program, uint32_t bytes) {
    return bytes >= sizeof(ml_header) ? ((const ml_header *)(const void *)program)->crc32 : 0;
}

static bool counter_runs(void) {
    const uint32_t start = ml_port_ticks();
    uint32_t reads = 0;
    while (reads < 10000u && ml_port_ticks() == start) reads++;
    return reads < 10000u;
}

static int32_t on_hello(exchange *x) {
    ml_hello_reply *reply = x->reply;
    close_program();
    server.upload = NULL;
    *reply = (ml_hello_reply){
        .protocol_version = ML_PROTOCOL_VERSION,
        .format_version = ML_PROGRAM_VERSION,
        .profile = ML_PROFILE,
        .frame_bytes = ML_FRAME_BYTES,
        .pool_bytes = distance(ml_pool_start, ml_pool_end),
        .stack_bytes = distance(ml_stack_start, ml_stack_end),
        .resident_bytes = server.resident_bytes,
        .resident_crc = crc_of(server.resident, server.resident_bytes),
        .kernel_count = ml_kernel_count,
    };
    x->reply_tail_bytes = sizeof ML_BOARD_ID - 1u;
    memcpy(x->reply_tail, ML_BOARD_ID, x->reply_tail_bytes);
    reply->counter_runs = counter_runs();
    return ML_OK;
}

static int32_t on_kernels(exchange *x) {
    const ml_kernels_request *request = x->request;
    if (request->first > ml_kernel_count) return ML_LINK_ERR_RANGE;
    const uint32_t count = ML_MIN(ml_kernel_count - request->first, x->reply_room / 2u);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(x->reply_tail + 2u * i, &ml_kernels[request->first + i].number, 2u);
    }
    x->reply_tail_bytes = 2u * count;
    return ML_OK;
}

static int32_t begin_upload(uint32_t total_bytes) {
    close_program();
    server.upload = NULL;
    if (total_bytes > distance(ml_pool_start, ml_pool_end)) return ML_LINK_ERR_MEMORY;
    /* The pool's ends are aligned, so rounding up cannot leave it. */
    server.upload = ml_pool_end - align_up(total_bytes);
    server.upload_bytes = total_bytes;
    server.uploaded_bytes = 0;
    return ML_OK;
}

static int32_t on_load(exchange *x) {
    const ml_load_request *request = x->request;
    if (request->offset == 0) {
        const int32_t status = begin_upload(request->total_bytes);
        if (status != ML_OK) return status;
    }
    if (server.upload == NULL || request->total_bytes != server.upload_bytes ||
        request->offset != server.uploaded_bytes || !inside(server.upload_bytes, request->offset, x->tail_bytes)) {
        return ML_LINK_ERR_RANGE;
    }
    memcpy(server.upload + request->offset, x->tail, x->tail_bytes);
    server.uploaded_bytes += x->tail_bytes;
    return ML_OK;
}

typedef struct {
    uint8_t *start;
    uint32_t bytes, used; /* multiples of ALIGNMENT */
} ram;

/* Takes `bytes` of what is left of `from`; false if they are more. */
static bool take(ram *from, uint32_t bytes, void **block, uint32_t *block_bytes) {
    if (bytes > from->bytes - from->used) return false;
    *block = from->start + from->used;
    *block_bytes = bytes;
    from->used = align_up(from->used + bytes);
    return true;
}

static int32_t start_program(uint32_t limit, uint32_t *ticks) {
    ml_memory memory = {0};
    ram pool = {ml_pool_start, limit, 0};
#ifdef ML_FAST_BYTES /* the board has such RAM, all of it for programs */
    ram fast_ram = {(uint8_t *)(uintptr_t)ML_FAST_ORIGIN, ML_FAST_BYTES / ALIGNMENT * ALIGNMENT, 0};
    ram *fast = &fast_ram;
#else
    ram *fast = &pool;
#endif
    const uint32_t state_bytes = ml_state_bytes(&server.session);
    if (!take(&pool, ml_arena_bytes(&server.session), &memory.arena, &memory.arena_bytes) ||
        !take(fast, ml_fast_bytes(&server.session), &memory.fast, &memory.fast_bytes) ||
        !(take(fast, state_bytes, &memory.state, &memory.state_bytes) ||
          take(&pool, state_bytes, &memory.state, &memory.state_bytes))) {
        return ML_LINK_ERR_MEMORY;
    }
    const uint32_t start = ml_port_ticks();
    const int32_t status = ml_start(&server.session, &memory);
    *ticks = ticks_since(start);
    return status;
}

static int32_t open_program(const uint8_t *program, uint32_t bytes, bool check_crc, uint32_t limit,
                            ml_open_reply *reply) {
    const uint32_t start = ml_port_ticks();
    int32_t status =
        check_crc ? ml_open(&server.session, program, bytes) : ml_open_trusted_storage(&server.session, program, bytes);
    reply->open_ticks = ticks_since(start);
    if (status == ML_OK) status = start_program(limit, &reply->start_ticks);
    reply->failed_step = server.session.failed_step;
    reply->arena_bytes = ml_arena_bytes(&server.session);
    reply->fast_bytes = ml_fast_bytes(&server.session);
    reply->state_bytes = ml_state_bytes(&server.session);
    reply->input_count = ml_input_count(&server.session);
    reply->output_count = ml_output_count(&server.session);
    reply->step_count = ml_step_count(&server.session);
    return status;
}

static int32_t on_open(exchange *x) {
    const ml_open_request *request = x->request;
    const bool uploaded = request->source == ML_LINK_SOURCE_UPLOADED;
    close_program();
    if (request->source > ML_LINK_SOURCE_UPLOADED) return ML_LINK_ERR_RANGE;
    if (uploaded ? server.upload == NULL || server.uploaded_bytes != server.upload_bytes : server.resident_bytes == 0) {
        return ML_LINK_ERR_MISSING;
    }
    const uint8_t *program = uploaded ? server.upload : server.resident;
    const uint32_t bytes = uploaded ? server.upload_bytes : server.resident_bytes;
    const uint32_t limit = distance(ml_pool_start, uploaded ? server.upload : ml_pool_end);
    const int32_t status = open_program(program, bytes, request->check_crc != 0, limit, x->reply);
    /* The program in flash takes the whole pool, an upload included. */
    if (!uploaded) server.upload = NULL;
    server.started = status == ML_OK;
    return status;
}

static void use_own_program(void) {
    close_program();
    server.resident = ml_model;
    server.resident_bytes = ml_model_bytes;
}

#if defined(ML_PROGRAMS_BYTES)

/* Goes over to the program that has come after the image, if a whole one lies there that runs here. */
static void use_update(void) {
    ml_open_reply opened;
    const uint8_t *update = ml_store_program(crc_of(ml_model, ml_model_bytes));
    const uint32_t room = ml_store_bytes() - ML_LINK_FLASH_PAGE_BYTES;
    if (update != NULL && open_program(update, room, true, distance(ml_pool_start, ml_pool_end), &opened) == ML_OK) {
        server.resident = update;
        server.resident_bytes = ((const ml_header *)(const void *)update)->bytes;
    }
}

static int32_t on_flash_info(exchange *x) {
    ml_flash_info_reply *reply = x->reply;
    *reply = (ml_flash_info_reply){
        .bytes = ml_store_bytes(),
        .erase_bytes = ML_PROGRAMS_ERASE_BYTES,
        .image_crc = crc_of(ml_model, ml_model_bytes),
        .updated = server.resident != ml_model,
    };
    return ML_OK;
}

static int32_t on_flash_erase(exchange *x) {
    const ml_flash_erase_request *request = x->request;
    use_own_program();
    return ml_store_erase(request->offset);
}

static int32_t on_flash_write(exchange *x) {
    const ml_flash_write_request *request = x->request;
    use_own_program();
    return ml_store_write(request->offset, x->tail, x->tail_bytes);
}

#else
/* Requests that are not known here. */
#define on_flash_info NULL
#define on_flash_erase NULL
#define on_flash_write NULL
static void use_update(void) {}
#endif

static int32_t on_describe(exchange *x) {
    const ml_describe_request *request = x->request;
    ml_describe_reply *reply = x->reply;
    ml_tensor tensor;
    if (!server.started) return ML_LINK_ERR_CLOSED;
    const bool output = request->direction == ML_LINK_DIRECTION_OUTPUT;
    const ml_status status = output ? ml_output_info(&server.session, request->index, &tensor)
                                    : ml_input_info(&server.session, request->index, &tensor);
    if (status != ML_OK || request->direction > ML_LINK_DIRECTION_OUTPUT) return ML_LINK_ERR_RANGE;
    *reply = (ml_describe_reply){.bytes = tensor.bytes, .dtype = tensor.dtype, .rank = tensor.rank};
    memcpy(&reply->scale, &tensor.scale, sizeof reply->scale);
    memcpy(&reply->zero_point, &tensor.zero_point, sizeof reply->zero_point);
    const uint32_t dims_bytes = 4u * (uint32_t)tensor.rank;
    uint32_t name_bytes = 0;
    while (name_bytes < x->reply_room - dims_bytes && tensor.name[name_bytes] != '\0') name_bytes++;
    memcpy(x->reply_tail, tensor.dims, dims_bytes);
    memcpy(x->reply_tail + dims_bytes, tensor.name, name_bytes);
    x->reply_tail_bytes = dims_bytes + name_bytes;
    return ML_OK;
}

static int32_t on_write(exchange *x) {
    const ml_write_request *request = x->request;
    ml_tensor tensor;
    if (!server.started) return ML_LINK_ERR_CLOSED;
    if (ml_input_info(&server.session, request->index, &tensor) != ML_OK ||
        !inside(tensor.bytes, request->offset, x->tail_bytes)) {
        return ML_LINK_ERR_RANGE;
    }
    memcpy((uint8_t *)ml_input(&server.session, request->index) + request->offset, x->tail, x->tail_bytes);
    return ML_OK;
}

static int32_t on_invoke(exchange *x) {
    ml_invoke_reply *reply = x->reply;
    if (!server.started) return ML_LINK_ERR_CLOSED;
    const uint32_t start = ml_port_ticks();
    const ml_status status = ml_invoke(&server.session);
    reply->ticks = ticks_since(start);
    reply->failed_step = server.session.failed_step;
    return stack_overflowed() ? ML_LINK_ERR_STACK : (int32_t)status;
}

static int32_t on_step(exchange *x) {
    const ml_step_request *request = x->request;
    ml_step_reply *reply = x->reply;
    if (!server.started) return ML_LINK_ERR_CLOSED;
    if (request->step >= ml_step_count(&server.session)) return ML_LINK_ERR_RANGE;
    reply->next = request->step;
    const uint32_t start = ml_port_ticks();
    const ml_status status = ml_invoke_step(&server.session, &reply->next);
    reply->ticks = ticks_since(start);
    return stack_overflowed() ? ML_LINK_ERR_STACK : (int32_t)status;
}

/* The memory that READ names, and its size; null if there is none. */
static const uint8_t *readable(const ml_read_request *request, uint32_t *bytes) {
    const ml_session *session = &server.session;
    ml_tensor tensor;
    if (request->source == ML_LINK_READ_OUTPUT) {
        if (ml_output_info(session, request->index, &tensor) != ML_OK) return NULL;
        *bytes = tensor.bytes;
        return ml_output(session, request->index);
    }
    if (request->source != ML_LINK_READ_REGION) return NULL;
    switch (request->index) {
    case ML_REGION_ARENA: *bytes = ml_arena_bytes(session); break;
    case ML_REGION_STATE: *bytes = ml_state_bytes(session); break;
    case ML_REGION_FAST: *bytes = ml_fast_bytes(session); break;
    default: return NULL;
    }
    return session->region[request->index];
}

static int32_t on_read(exchange *x) {
    const ml_read_request *request = x->request;
    uint32_t bytes = 0;
    if (!server.started) return ML_LINK_ERR_CLOSED;
    const uint8_t *memory = readable(request, &bytes);
    if (memory == NULL || !inside(bytes, request->offset, request->count) || request->count > x->reply_room) {
        return ML_LINK_ERR_RANGE;
    }
    memcpy(x->reply_tail, memory + request->offset, request->count);
    x->reply_tail_bytes = request->count;
    return ML_OK;
}

static int32_t on_reset(exchange *x) {
    (void)x;
    return server.started ? (int32_t)ml_reset(&server.session) : ML_LINK_ERR_CLOSED;
}

static int32_t on_stack(exchange *x) {
    const ml_stack_request *request = x->request;
    ml_stack_reply *reply = x->reply;
    reply->used_bytes = stack_used();
    if (request->repaint != 0) paint_stack();
    return ML_OK;
}

static int32_t on_reboot(exchange *x) {
    (void)x;
    server.rebooting = true;
    return ML_OK;
}

/* By number, from 1 up: how to answer each kind of request, and what it is made of. */
static const struct {
    int32_t (*answer)(exchange *);
    uint8_t request_words;
    uint8_t reply_words;
    bool tail;
} KINDS[] = {
#define KIND(name, number, request_words, reply_words, tail) [number] = {on_##name, request_words, reply_words, tail},
    ML_MESSAGES(KIND)
#undef KIND
};

/* Answers the request of `count` bytes in `server.received`: fills `server.sent`. */
static void answer(uint32_t count) {
    ml_link_header header;
    memcpy(&header, server.received, sizeof header);
    const uint32_t kind = header.kind;
    const bool known = kind < sizeof KINDS / sizeof KINDS[0] && KINDS[kind].answer != NULL;
    const uint32_t request_bytes = ML_LINK_HEADER_BYTES + (known ? 4u * KINDS[kind].request_words : 0u);
    int32_t status = ML_OK;
    uint32_t reply_bytes = ML_LINK_HEADER_BYTES;
    if (!server.in_session) {
        status = ML_LINK_ERR_SESSION;
    } else if (!known) {
        status = ML_LINK_ERR_KIND;
    } else if (count < request_bytes || (count > request_bytes && !KINDS[kind].tail)) {
        status = ML_LINK_ERR_LENGTH;
    } else {
        reply_bytes += 4u * KINDS[kind].reply_words;
        memset(server.sent, 0, reply_bytes);
        exchange x = {
            .request = (const uint8_t *)server.received + ML_LINK_HEADER_BYTES,
            .tail = (const uint8_t *)server.received + request_bytes,
            .tail_bytes = count - request_bytes,
            .reply = (uint8_t *)server.sent + ML_LINK_HEADER_BYTES,
            .reply_tail = (uint8_t *)server.sent + reply_bytes,
            .reply_room = BODY_BYTES - reply_bytes,
        };
        status = KINDS[kind].answer(&x);
        reply_bytes += x.reply_tail_bytes;
    }
    header.kind = (uint8_t)(kind | ML_LINK_REPLY);
    header.status = (int8_t)status;
    memcpy(server.sent, &header, sizeof header);
    server.sent_bytes = reply_bytes;
}

void ml_server_start(void) {
    server.receiver.bytes = (uint8_t *)server.received;
    server.receiver.capacity = sizeof server.received;
    /* The least of a few empty measurements: the first may pay for a cache miss. */
    uint32_t cost = UINT32_MAX;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t start = ml_port_ticks();
        const uint32_t ticks = ml_port_ticks() - start;
        cost = ML_MIN(cost, ticks);
    }
    server.counter_cost = cost;
    use_own_program();
    use_update();
}

void ml_server_receive(uint8_t byte) {
    ml_link_header header;
    const uint32_t count = ml_frame_receive(&server.receiver, byte);
    if (count == 0) return;
    memcpy(&header, server.received, sizeof header);
    if (header.kind == ML_LINK_HELLO) {
        server.in_session = true;
    } else if (server.in_session && header.sequence == server.sequence) {
        /* A request that came twice, because it was doubled on the line or its reply was lost: not done again. */
        ml_frame_send((uint8_t *)server.sent, server.sent_bytes);
        return;
    } else if (header.sequence != (uint16_t)(server.sequence + 1u)) {
        server.in_session = false; /* the host and this server have lost each other */
    }
    server.sequence = header.sequence;
    answer(count);
    ml_frame_send((uint8_t *)server.sent, server.sent_bytes);
    if (server.rebooting) ml_port_reset();
}
