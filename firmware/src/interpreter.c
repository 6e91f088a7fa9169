/* The interpreter: checks a program once, then runs its steps. See SPEC.md for the bytes it reads. */
#include "crc32.h"
#include "kernel.h"

#define FLAG_OPEN 1u
#define FLAG_STARTED 2u
#define NO_STEP 0xFFFFFFFFu

static const ml_header *header_of(const ml_session *session) {
    return (const ml_header *)(const void *)session->region[ML_REGION_PROGRAM];
}

static const void *at(const ml_session *session, uint32_t offset) {
    return session->region[ML_REGION_PROGRAM] + offset;
}

static bool is_open(const ml_session *session) { return (session->flags & FLAG_OPEN) != 0; }

#define EMPTY_LIMIT 65536u

#if defined(__thumb__) && !defined(__thumb2__)
__attribute__((noinline)) uint32_t ml_times_wide(uint32_t a, uint32_t b) {
    uint32_t result;
    return __builtin_mul_overflow(a, b, &result) ? UINT32_MAX : result;
}
#endif

/* The product, UINT32_MAX where it is not smaller. */
static uint32_t product(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e) {
    uint32_t bytes;
    bool small = !ml_times(a, b, &bytes) && !ml_times(c, bytes, &bytes) && !ml_times(d, bytes, &bytes) &&
                 !ml_times(e, bytes, &bytes);
    return small ? bytes : UINT32_MAX;
}

bool ml_holds_block(const ml_operand *operand, uint32_t element_bytes, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    uint32_t bytes = product(element_bytes, a, b, c, d);
    if (bytes != 0) {
        return bytes <= operand->bytes; /* which is below UINT32_MAX */
    }
    /* A factor of 0 must not hide the others: loops over an empty tensor would take for ever. */
    return product(element_bytes, ML_MAX(a, 1u), ML_MAX(b, 1u), ML_MAX(c, 1u), ML_MAX(d, 1u)) <= EMPTY_LIMIT;
}

bool ml_holds_table(const ml_operand *operand, uint32_t element_bytes, uint32_t a, uint32_t b) {
    /* In a few instructions where all is as it should be: a program's start is checks such as these. */
    bool small = ((a | b) >> 13) == 0 && element_bytes <= 64;
    return (small && a * b * element_bytes - 1u < operand->bytes) || ml_holds_block(operand, element_bytes, a, b, 1, 1);
}

/* Whether `count` records of `size` bytes at `offset` lie in a block of `limit` bytes, aligned to 4. */
static bool table_fits(uint32_t limit, uint32_t offset, uint32_t count, uint32_t size) {
    return (offset & 3u) == 0 && offset <= limit && ml_product(count, size) <= limit - offset;
}

#define REGIONS (ML_REGION_FAST + 1u)

/* Bytes of each region. */
static void measure_regions(const ml_header *header, uint32_t *limits) {
    limits[ML_REGION_NONE] = 0;
    limits[ML_REGION_PROGRAM] = header->bytes;
    limits[ML_REGION_ARENA] = header->arena_bytes;
    limits[ML_REGION_STATE] = header->state_bytes;
    limits[ML_REGION_FAST] = header->fast_bytes;
}

static inline bool span_fits(const uint32_t *limits, uint32_t ref, uint32_t bytes) {
    uint32_t region = ref >> 28, offset = ref & ML_OFFSET_MASK;
    /* An empty span fits everywhere, but in a region that exists. */
    return region < REGIONS && offset <= limits[region] && bytes <= limits[region] - offset;
}

static ml_status check_header(const ml_header *header, uint32_t program_bytes) {
    if (header->magic != ML_PROGRAM_MAGIC) {
        return ML_ERR_MAGIC;
    }
    if (header->version != ML_PROGRAM_VERSION) {
        return ML_ERR_VERSION;
    }
    if (header->bytes > program_bytes || header->bytes < sizeof *header) {
        return ML_ERR_TRUNCATED;
    }
    bool sound = header->bytes <= ML_OFFSET_MASK && header->arena_bytes <= ML_OFFSET_MASK &&
                 header->fast_bytes <= ML_OFFSET_MASK && header->state_bytes <= ML_OFFSET_MASK &&
                 header->state_image_bytes <= header->state_bytes &&
                 table_fits(header->bytes, header->state_image, header->state_image_bytes, 1) &&
                 table_fits(header->bytes, header->tensors, (uint32_t)header->input_count + header->output_count,
                            sizeof(ml_tensor_record)) &&
                 table_fits(header->bytes, header->steps, header->step_count, sizeof(ml_step_record)) &&
                 table_fits(header->bytes, header->operands, header->operand_count, sizeof(ml_operand));
    return sound ? ML_OK : ML_ERR_BOUNDS;
}

/* Whether the dimensions, of elements of the tensor's type, come to its bytes: applications walk by them. */
static bool dims_match(const ml_session *session, const ml_tensor_record *tensor) {
    static const uint8_t element_bytes[] = {1, 1, 2, 4, 8, 4, 1, 2, 4, 8}; /* by ml_dtype */
    if (tensor->dtype >= sizeof element_bytes) {
        return false;
    }
    const uint32_t *dims = at(session, tensor->dims);
    uint32_t bytes = element_bytes[tensor->dtype];
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (ml_times(bytes, dims[i], &bytes) || bytes == UINT32_MAX) {
            return false;
        }
    }
    return bytes == tensor->bytes;
}

static ml_status check_tensor(const ml_session *session, const uint32_t *limits, const ml_tensor_record *tensor,
                              bool input) {
    const ml_header *header = header_of(session);
    uint32_t region = tensor->ref >> 28;
    bool sound = span_fits(limits, tensor->ref, tensor->bytes) && region != ML_REGION_NONE &&
                 tensor->rank <= ML_MAX_RANK && !(input && region == ML_REGION_PROGRAM) && (tensor->ref & 15u) == 0 &&
                 table_fits(header->bytes, tensor->dims, tensor->rank, 4) && tensor->name <= header->bytes &&
                 tensor->name_bytes != 0 && tensor->name_bytes <= header->bytes - tensor->name;
    if (!sound || !dims_match(session, tensor)) {
        return ML_ERR_BOUNDS;
    }
    const char *name = at(session, tensor->name);
    return name[tensor->name_bytes - 1u] == '\0' ? ML_OK : ML_ERR_BOUNDS;
}

/* Kernels lie by rising number, behind them one above all. Steps that follow each other often have kernels that do:
 * the search begins at `kernel`. */
static const ml_kernel *find_kernel(const ml_kernel *kernel, uint32_t number) {
    while (kernel->number > number && kernel != ml_kernels) {
        kernel--;
    }
    while (kernel->number < number) {
        kernel++;
    }
    return kernel;
}

/* Not part of its caller, where the registers would not suffice: it goes through every operand of a program, and much
 * of a program's start is spent here. */
__attribute__((noinline)) static bool operands_sound(const uint32_t *limits, const ml_kernel *kernel,
                                                     const ml_operand *operand) {
    const uint8_t *slot = kernel->slots;
    for (uint32_t left = kernel->operand_count; left != 0; left--) {
        uint32_t ref = operand->ref, slots = *slot++, region = ref >> 28;
        /* Bits of the slot, shifted to the top. */
        if ((slots >> region) << (31u - ML_SLOT_REGIONS) >> 31 == 0 || (ref & slots) << (32u - ML_SLOT_REGIONS) != 0) {
            return false;
        }
        /* What is left out has an offset and a size of 0, as much as its region holds. */
        uint32_t limit = limits[region], offset = ref & ML_OFFSET_MASK;
        if (offset > limit || operand->bytes > limit - offset) {
            return false;
        }
        operand++;
    }
    return true;
}

/* `kernel`: that of the step before, which becomes its own. */
static ml_status check_step(const ml_header *header, const uint32_t *limits, const ml_step_record *step,
                            const ml_kernel **kernel) {
    const ml_kernel *own = *kernel = find_kernel(*kernel, step->kernel);
    if (own->number != step->kernel || own->number == UINT16_MAX) {
        return ML_ERR_KERNEL;
    }
    uint32_t count = own->operand_count, first = step->first_operand, args = step->args;
    if (step->operand_count != count || first > header->operand_count || count > header->operand_count - first ||
        (args & 3u) != 0 || args > header->bytes || own->args_bytes > header->bytes - args) {
        return ML_ERR_BOUNDS;
    }
    const uint8_t *block = (const uint8_t *)header;
    const ml_operand *operands = (const ml_operand *)(const void *)(block + header->operands) + first;
    if (!operands_sound(limits, own, operands)) {
        return ML_ERR_OPERAND;
    }
    return own->check(block + args, operands);
}

static ml_status check_program(ml_session *session) {
    const ml_header *header = header_of(session);
    const ml_tensor_record *tensors = at(session, header->tensors);
    const ml_step_record *steps = at(session, header->steps);
    uint32_t limits[REGIONS];
    measure_regions(header, limits);
    for (uint32_t i = 0; i < (uint32_t)header->input_count + header->output_count; i++) {
        ml_status status = check_tensor(session, limits, &tensors[i], i < header->input_count);
        if (status != ML_OK) {
            return status;
        }
    }
    const ml_kernel *kernel = ml_kernels;
    for (uint32_t i = 0; i < header->step_count; i++) {
        ml_status status = check_step(header, limits, &steps[i], &kernel);
        if (status != ML_OK) {
            session->failed_step = i;
            return status;
        }
    }
    return ML_OK;
}

static ml_status attach(ml_session *session, const void *program, uint32_t program_bytes, bool check_crc) {
    memset(session, 0, sizeof *session);
    session->failed_step = NO_STEP;
    if (((uintptr_t)program & 15u) != 0) {
        return ML_ERR_ALIGNMENT;
    }
    if (program == NULL || program_bytes < sizeof(ml_header)) {
        return ML_ERR_TRUNCATED;
    }
    /* The region table serves reading and writing; nothing writes to the program, which check_step() sees to. */
    session->region[ML_REGION_PROGRAM] = (uint8_t *)(uintptr_t)program;
    const ml_header *header = header_of(session);
    ml_status status = check_header(header, program_bytes);
    if (status == ML_OK && check_crc &&
        ml_crc32(0, (const uint8_t *)program + ML_CRC_START, header->bytes - ML_CRC_START) != header->crc32) {
        status = ML_ERR_CRC;
    }
    if (status == ML_OK) {
        status = check_program(session);
    }
    session->flags = status == ML_OK ? FLAG_OPEN : 0;
    return status;
}

ml_status ml_open(ml_session *session, const void *program, uint32_t program_bytes) {
    return attach(session, program, program_bytes, true);
}

ml_status ml_open_trusted_storage(ml_session *session, const void *program, uint32_t program_bytes) {
    return attach(session, program, program_bytes, false);
}

uint32_t ml_arena_bytes(const ml_session *session) { return is_open(session) ? header_of(session)->arena_bytes : 0; }

uint32_t ml_fast_bytes(const ml_session *session) { return is_open(session) ? header_of(session)->fast_bytes : 0; }

uint32_t ml_state_bytes(const ml_session *session) { return is_open(session) ? header_of(session)->state_bytes : 0; }

uint32_t ml_input_count(const ml_session *session) { return is_open(session) ? header_of(session)->input_count : 0; }

uint32_t ml_output_count(const ml_session *session) { return is_open(session) ? header_of(session)->output_count : 0; }

uint32_t ml_step_count(const ml_session *session) { return is_open(session) ? header_of(session)->step_count : 0; }

static ml_status lend(ml_session *session, uint32_t region, void *memory, uint32_t bytes, uint32_t need) {
    if (((uintptr_t)memory & 15u) != 0) {
        return ML_ERR_ALIGNMENT;
    }
    if (bytes < need || (need != 0 && memory == NULL)) {
        return ML_ERR_ARENA;
    }
    session->region[region] = memory;
    return ML_OK;
}

ml_status ml_start(ml_session *session, const ml_memory *memory) {
    if (!is_open(session)) {
        return ML_ERR_STATE;
    }
    const ml_header *header = header_of(session);
    ml_status status = lend(session, ML_REGION_ARENA, memory->arena, memory->arena_bytes, header->arena_bytes);
    if (status == ML_OK) {
        status = lend(session, ML_REGION_FAST, memory->fast, memory->fast_bytes, header->fast_bytes);
    }
    if (status == ML_OK) {
        status = lend(session, ML_REGION_STATE, memory->state, memory->state_bytes, header->state_bytes);
    }
    if (status != ML_OK) {
        session->flags &= ~FLAG_STARTED;
        return status;
    }
    session->flags |= FLAG_STARTED;
    return ml_reset(session);
}

ml_status ml_reset(ml_session *session) {
    if ((session->flags & FLAG_STARTED) == 0) {
        return ML_ERR_STATE;
    }
    const ml_header *header = header_of(session);
    uint8_t *state = session->region[ML_REGION_STATE];
    if (header->state_bytes != 0) {
        memcpy(state, at(session, header->state_image), header->state_image_bytes);
        memset(state + header->state_image_bytes, 0, header->state_bytes - header->state_image_bytes);
    }
    return ML_OK;
}

static const ml_tensor_record *tensor_record(const ml_session *session, uint32_t index, bool output) {
    const ml_header *header = header_of(session);
    if (!is_open(session) || index >= (output ? header->output_count : header->input_count)) {
        return NULL;
    }
    return (const ml_tensor_record *)at(session, header->tensors) + (output ? header->input_count : 0u) + index;
}

static ml_status describe(const ml_session *session, const ml_tensor_record *record, ml_tensor *info) {
    if (record == NULL) {
        return ML_ERR_BOUNDS;
    }
    info->name = at(session, record->name);
    info->dims = at(session, record->dims);
    info->bytes = record->bytes;
    info->scale = record->scale;
    info->zero_point = record->zero_point;
    info->dtype = record->dtype;
    info->rank = record->rank;
    return ML_OK;
}

ml_status ml_input_info(const ml_session *session, uint32_t index, ml_tensor *info) {
    return describe(session, tensor_record(session, index, false), info);
}

ml_status ml_output_info(const ml_session *session, uint32_t index, ml_tensor *info) {
    return describe(session, tensor_record(session, index, true), info);
}

static void *resolve(const ml_session *session, uint32_t ref) {
    return session->region[ref >> 28] + (ref & ML_OFFSET_MASK);
}

static void *tensor_data(const ml_session *session, const ml_tensor_record *record) {
    return record == NULL || (session->flags & FLAG_STARTED) == 0 ? NULL : resolve(session, record->ref);
}

void *ml_input(const ml_session *session, uint32_t index) {
    return tensor_data(session, tensor_record(session, index, false));
}

const void *ml_output(const ml_session *session, uint32_t index) {
    return tensor_data(session, tensor_record(session, index, true));
}

ml_status ml_invoke_step(ml_session *session, uint32_t *step) {
    if ((session->flags & FLAG_STARTED) == 0) {
        return ML_ERR_STATE;
    }
    const ml_header *header = header_of(session);
    if (*step >= header->step_count) {
        return ML_ERR_BOUNDS;
    }
    const ml_step_record *record = (const ml_step_record *)at(session, header->steps) + *step;
    const ml_operand *operands = (const ml_operand *)at(session, header->operands) + record->first_operand;
    const ml_kernel *kernel = find_kernel(ml_kernels, record->kernel);
    void *pointers[ML_MAX_OPERANDS];
    for (uint32_t i = 0; i < kernel->operand_count; i++) {
        uint32_t ref = operands[i].ref;
        pointers[i] = ref == 0 ? NULL : resolve(session, ref);
    }
    int32_t result = kernel->run(at(session, record->args), pointers);
    if (result < 0 || result > (int32_t)header->step_count + 1) {
        session->failed_step = *step;
        return result < 0 ? (ml_status)result : ML_ERR_BOUNDS;
    }
    *step = result == 0 ? *step + 1u : (uint32_t)result - 1u;
    return ML_OK;
}

ml_status ml_invoke(ml_session *session) {
    if ((session->flags & FLAG_STARTED) == 0) {
        return ML_ERR_STATE;
    }
    uint32_t count = header_of(session)->step_count;
    for (uint32_t step = 0; step < count;) {
        ml_status status = ml_invoke_step(session, &step);
        if (status != ML_OK) {
            return status;
        }
    }
    return ML_OK;
}

const char *ml_status_text(ml_status status) {
    switch (status) {
#define ML_STATUS_TEXT(name, value, text) \
    case name: return text;
        ML_STATUSES(ML_STATUS_TEXT)
#undef ML_STATUS_TEXT
    }
    return "unknown status";
}
