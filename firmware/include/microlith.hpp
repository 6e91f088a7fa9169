// Microlith for C++17 on computers with a heap: RAII over microlith.h.
//
//   microlith::Program program = microlith::Program::read("model.mlith");
//   std::copy(pixels.begin(), pixels.end(), program.input<int8_t>(0).begin());
//   program.invoke();
//   for (int8_t score : program.output<int8_t>(0)) ...
//
// Link with libmicrolith (python -m sdk.shared_library), or with the interpreter's sources. Faults are microlith::Error.
#ifndef MICROLITH_HPP
#define MICROLITH_HPP

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "microlith.h"

namespace microlith {

class Error : public std::runtime_error {
  public:
    Error(ml_status status, const std::string &what)
        : std::runtime_error(what + ": " + ml_status_text(status)), status_(status) {}
    ml_status status() const noexcept { return status_; }

  private:
    ml_status status_;
};

// `size()` values at `data()` that belong to someone else.
template <typename T> class Span {
  public:
    Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    T *begin() const noexcept { return data_; }
    T *end() const noexcept { return data_ + size_; }
    T &operator[](std::size_t index) const noexcept { return data_[index]; }

  private:
    T *data_;
    std::size_t size_;
};

// Memory aligned to 16 bytes, zero at first.
class Block {
  public:
    Block() noexcept = default;
    explicit Block(uint32_t bytes) : data_(bytes ? ::operator new(bytes, alignment) : nullptr), bytes_(bytes) {
        if (bytes_) std::memset(data_, 0, bytes_);
    }
    Block(Block &&other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Block &operator=(Block &&other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Block() { ::operator delete(data_, alignment); }
    void *data() const noexcept { return data_; }
    uint32_t bytes() const noexcept { return bytes_; }

  private:
    static constexpr std::align_val_t alignment{16};
    void *data_ = nullptr;
    uint32_t bytes_ = 0;
};

// One running program. It may be moved, not copied; it is not for several threads at once.
class Program {
  public:
    // A copy of the program in memory, checked and started.
    Program(const void *program, uint32_t bytes) : program_(bytes) {
        std::memcpy(program_.data(), program, bytes);
        check(ml_open(&session_, program_.data(), bytes), "the program");
        start();
    }

    // The program in the file `path`. std::runtime_error if it cannot be read.
    static Program read(const std::string &path) {
        std::ifstream file(path, std::ios::binary);
        const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        if (!file.is_open() || file.bad()) throw std::runtime_error("cannot read " + path);
        return Program(bytes.data(), static_cast<uint32_t>(bytes.size()));
    }

    uint32_t input_count() const noexcept { return ml_input_count(&session_); }
    uint32_t output_count() const noexcept { return ml_output_count(&session_); }

    ml_tensor input_info(uint32_t index) const {
        ml_tensor tensor;
        check(ml_input_info(&session_, index, &tensor), "input " + std::to_string(index));
        return tensor;
    }
    ml_tensor output_info(uint32_t index) const {
        ml_tensor tensor;
        check(ml_output_info(&session_, index, &tensor), "output " + std::to_string(index));
        return tensor;
    }

    // The stored values. An input's memory is reused by invoke(): write it before each one.
    template <typename T> Span<T> input(uint32_t index) {
        return span<T>(input_info(index), ml_input(&session_, index));
    }
    template <typename T> Span<const T> output(uint32_t index) const {
        return span<const T>(output_info(index), ml_output(&session_, index));
    }

    // Puts variables back to their initial values.
    void reset() { check(ml_reset(&session_), "the program"); }

    void invoke() {
        const ml_status status = ml_invoke(&session_);
        if (status != ML_OK) throw Error(status, "step " + std::to_string(session_.failed_step));
    }

  private:
    static void check(ml_status status, const std::string &what) {
        if (status != ML_OK) throw Error(status, what);
    }

    void start() {
        arena_ = Block(ml_arena_bytes(&session_));
        fast_ = Block(ml_fast_bytes(&session_));
        state_ = Block(ml_state_bytes(&session_));
        const ml_memory memory = {arena_.data(), arena_.bytes(), fast_.data(),
                                  fast_.bytes(), state_.data(),  state_.bytes()};
        check(ml_start(&session_, &memory), "the program's memory");
    }

    // Refuses a type that is not the tensor's own.
    template <typename T, typename Pointer> static Span<T> span(const ml_tensor &tensor, Pointer *data) {
        using Value = std::remove_const_t<T>;
        static_assert(dtype<Value>() >= 0, "not an element type of tensors");
        if (dtype<Value>() != static_cast<int>(tensor.dtype)) {
            throw std::invalid_argument(std::string(tensor.name) + " holds values of another type");
        }
        return {static_cast<T *>(data), tensor.bytes / sizeof(T)};
    }

    template <typename T> static constexpr int dtype() {
        if constexpr (std::is_same_v<T, bool>) return ML_BOOL;
        if constexpr (std::is_same_v<T, float>) return ML_F32;
        if constexpr (std::is_same_v<T, int8_t>) return ML_S8;
        if constexpr (std::is_same_v<T, uint8_t>) return ML_U8;
        if constexpr (std::is_same_v<T, int16_t>) return ML_S16;
        if constexpr (std::is_same_v<T, uint16_t>) return ML_U16;
        if constexpr (std::is_same_v<T, int32_t>) return ML_S32;
        if constexpr (std::is_same_v<T, uint32_t>) return ML_U32;
        if constexpr (std::is_same_v<T, int64_t>) return ML_S64;
        if constexpr (std::is_same_v<T, uint64_t>) return ML_U64;
        return -1;
    }

    ml_session session_{};
    Block program_, arena_, fast_, state_;
};

// Real numbers as `tensor` stores them, and back; half away from zero, as TensorFlow Lite rounds.
template <typename T> T quantize(const ml_tensor &tensor, float real) {
    const float stored = std::round(real / tensor.scale) + static_cast<float>(tensor.zero_point);
    const float low = static_cast<float>(std::numeric_limits<T>::min());
    const float high = static_cast<float>(std::numeric_limits<T>::max());
    return static_cast<T>(stored < low ? low : stored > high ? high : stored);
}

inline float dequantize(const ml_tensor &tensor, int32_t stored) {
    return tensor.scale * static_cast<float>(stored - tensor.zero_point);
}

} // namespace microlith
#endif
