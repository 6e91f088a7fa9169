// Runs a program through the C++ header: program.cpp PROGRAM prints the outputs for the bytes of stdin, and refuses
// what it must.
#include <cstdio>
#include <microlith.hpp>

int main(int count, char **words) {
    if (count != 2) return 2;
    try {
        microlith::Program first = microlith::Program::read(words[1]);
        microlith::Program program = std::move(first);
        microlith::Span<int8_t> input = program.input<int8_t>(0);
        if (std::fread(input.data(), 1, input.size(), stdin) != input.size()) return 2;
        program.invoke();
        for (int8_t score : program.output<int8_t>(0)) std::printf("%d ", score);
        const ml_tensor image = program.input_info(0);
        std::printf("| %d %d ", microlith::quantize<int8_t>(image, 0.5f), microlith::quantize<int8_t>(image, 9.0f));
        std::printf("%g\n", static_cast<double>(microlith::dequantize(image, 127)));
        try {
            program.input<float>(0);
            return 3;
        } catch (const std::invalid_argument &error) {
            std::printf("%s\n", error.what());
        }
        program.input_info(1);
        return 3;
    } catch (const microlith::Error &error) {
        std::printf("%d %s\n", error.status(), error.what());
    }
    return 0;
}
