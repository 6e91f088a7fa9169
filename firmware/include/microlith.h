/* Microlith: run a lowered neural network (a program, `.mlith`) on a microcontroller.
 *
 * This is the one public header. A program is one relocatable block of bytes that `sdk lower` makes; it is read in
 * place, from flash or RAM, and never trusted: ml_open() checks every offset, size and count before anything is used.
 *
 *   static ml_session session;
 *   static _Alignas(16) uint8_t arena[ML_MODEL_ARENA_BYTES];
 *
 *   ml_status status = ml_open(&session, ml_model, ml_model_bytes);
 *   if (status == ML_OK) status = ml_start(&session, &(ml_memory){.arena = arena, .arena_bytes = sizeof arena});
 *   if (status != ML_OK) return status;
 *   memcpy(ml_input(&session, 0), pixels, ...);
 *   status = ml_invoke(&session);
 *   const int8_t *scores = ml_output(&session, 0);
 *
 * No allocation, no recursion, no global state: two sessions may run side by side, one session is not re-entrant.
 */
#ifndef MICROLITH_H
#define MICROLITH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Every status, once: name, value, text. The enum and the strings of ml_status_text() are both made from it. */
#define ML_STATUSES(X)                                                                          \
    X(ML_OK, 0, "ok")                                                                           \
    X(ML_ERR_TRUNCATED, -1, "the program is shorter than its header says")                      \
    X(ML_ERR_MAGIC, -2, "not a program: wrong magic number")                                    \
    X(ML_ERR_VERSION, -3, "the program has another format version than this firmware")          \
    X(ML_ERR_CRC, -4, "the program is damaged: its CRC-32 does not match")                      \
    X(ML_ERR_ALIGNMENT, -5, "a block of memory is not aligned to 16 bytes")                     \
    X(ML_ERR_BOUNDS, -6, "an offset or a count in the program lies outside its block")          \
    X(ML_ERR_KERNEL, -7, "the program needs a kernel that this image does not contain")         \
    X(ML_ERR_OPERAND, -8, "a step's operand is missing, misaligned, too small or not writable") \
    X(ML_ERR_ARGUMENT, -9, "a step's argument is outside what its kernel accepts")              \
    X(ML_ERR_ARENA, -10, "the memory given is smaller than the program needs")                  \
    X(ML_ERR_STATE, -11, "the session was not opened or not started")                           \
    X(ML_ERR_INDEX, -12, "a value computed by the model is outside the range it indexes")

typedef enum ml_status {
#define ML_STATUS_ENUM(name, value, text) name = value,
    ML_STATUSES(ML_STATUS_ENUM)
#undef ML_STATUS_ENUM
} ml_status;

/* Element types of tensors, by their number in the program. */
typedef enum ml_dtype {
    ML_S8 = 0,
    ML_U8 = 1,
    ML_S16 = 2,
    ML_S32 = 3,
    ML_S64 = 4,
    ML_F32 = 5,
    ML_BOOL = 6,
    ML_U16 = 7,
    ML_U32 = 8,
    ML_U64 = 9
} ml_dtype;

/* What is known of one input or output; all pointers lead into the program. */
typedef struct ml_tensor {
    const char *name; /* UTF-8, ends with a zero byte */
    const uint32_t *dims; /* `rank` sizes, outermost first */
    uint32_t bytes; /* size of the data */
    float scale; /* real = scale * (stored - zero_point); 0 if the tensor is not quantized */
    int32_t zero_point;
    uint8_t dtype; /* an ml_dtype */
    uint8_t rank; /* 0 to 8 */
} ml_tensor;

/* Memory that the caller lends for as long as the session runs. Blocks are aligned to 16 bytes; one that the program
 * does not use may be null with size 0. */
typedef struct ml_memory {
    void *arena; /* activations and scratch, ml_arena_bytes() */
    uint32_t arena_bytes;
    void *fast; /* a second arena in faster memory, ml_fast_bytes(); 0 for most programs */
    uint32_t fast_bytes;
    void *state; /* variables that live across inferences, ml_state_bytes() */
    uint32_t state_bytes;
} ml_memory;

#define ML_REGIONS 5u

/* One running program. Its fields are the interpreter's own. */
typedef struct ml_session {
    uint8_t *region[ML_REGIONS]; /* base address of each region that operands name */
    uint32_t failed_step; /* the step that the last error belongs to */
    uint32_t flags;
} ml_session;

/* Checks all of `program` (`program_bytes` long, 16-byte aligned, must stay where it is) and attaches it to `session`.
 * Touches no memory but `session`. On error `session->failed_step` tells the step, if the fault lies in one. */
ml_status ml_open(ml_session *session, const void *program, uint32_t program_bytes);

/* The same without the CRC-32 over the block: for a program that the linker placed and that cannot have changed. */
ml_status ml_open_trusted_storage(ml_session *session, const void *program, uint32_t program_bytes);

/* Bytes the opened program needs of each kind of memory. 0 before ml_open(). */
uint32_t ml_arena_bytes(const ml_session *session);
uint32_t ml_fast_bytes(const ml_session *session);
uint32_t ml_state_bytes(const ml_session *session);

/* Lends memory to an opened session and puts its state to the initial values. */
ml_status ml_start(ml_session *session, const ml_memory *memory);

/* Puts state back to the initial values, as ml_start() did. */
ml_status ml_reset(ml_session *session);

/* Number of inputs, outputs and steps of an opened program. */
uint32_t ml_input_count(const ml_session *session);
uint32_t ml_output_count(const ml_session *session);
uint32_t ml_step_count(const ml_session *session);

/* Describes input or output `index`. ML_ERR_BOUNDS if there is none. */
ml_status ml_input_info(const ml_session *session, uint32_t index, ml_tensor *info);
ml_status ml_output_info(const ml_session *session, uint32_t index, ml_tensor *info);

/* The data of input or output `index` of a started session, aligned to 16 bytes; null if there is none. An input's
 * memory is reused during an inference: write it before each one. An output is valid until the next write. */
void *ml_input(const ml_session *session, uint32_t index);
const void *ml_output(const ml_session *session, uint32_t index);

/* Runs all steps. On error `session->failed_step` tells which one. */
ml_status ml_invoke(ml_session *session);

/* Runs from step `*step` on, one step, and moves `*step` to the next; ml_step_count() when the program has ended. For
 * tools that look at intermediate tensors or count the cost of each step. */
ml_status ml_invoke_step(ml_session *session, uint32_t *step);

/* The meaning of `status`, in English. */
const char *ml_status_text(ml_status status);

#ifdef __cplusplus
}
#endif
#endif
