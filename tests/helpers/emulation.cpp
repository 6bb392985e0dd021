// sepconv.cu and naive.cu on a CPU: a library with one function, which tests/helpers/emulation.py calls.

#include "emulation.h"

#include "../../vfi/kernels/sepconv.cu"
#include "../../tools/naive.cu"

float widen(Half value)
{
    _Float16 half;
    memcpy(&half, &value.bits, 2);
    return half;
}

Half narrow(float value, Half)
{
    const _Float16 half = value;
    Half result;
    memcpy(&result.bits, &half, 2);
    return result;
}

struct Kernel {
    const char* name;
    void (*run)(const void* arguments);
};

#define KERNEL(T, ...) {#__VA_ARGS__, [](const void* arguments) { __VA_ARGS__(*(const Arguments<T>*)arguments); }},
#define ANY(T) KERNEL(T, forward_any<T>) KERNEL(T, backward_kernels_any<T>) KERNEL(T, backward_frame_any<T>)
#define FAST(T, CHANNELS)                                                                                              \
    KERNEL(T, forward<T, CHANNELS>)                                                                                    \
    KERNEL(T, backward_kernels<T, CHANNELS>)                                                                           \
    KERNEL(T, backward_frame<T, CHANNELS>)
#define TENSOR(T, CHANNELS) KERNEL(T, forward_tensor_cores<T, CHANNELS>)

const Kernel KERNELS[] = {
    ANY(float) ANY(double) ANY(Half) ANY(BFloat16)
    FAST(float, 3) FAST(float, 4) FAST(Half, 3) FAST(Half, 4) FAST(BFloat16, 3) FAST(BFloat16, 4)
    KERNEL(float, naive<float, false>) KERNEL(float, naive<float, true>)
    TENSOR(Half, 3) TENSOR(Half, 4) TENSOR(BFloat16, 3) TENSOR(BFloat16, 4)
};

// Runs a kernel; fibers take turns backwards if asked to. Returns what went wrong, or an empty string.
extern "C" const char* launch(
    const char* name, const unsigned* grid, const unsigned* threads, unsigned shared_bytes, const void* arguments,
    int backwards)
{
    static thread_local std::string failure;
    failure.clear();
    const auto kernel = std::find_if(
        std::begin(KERNELS), std::end(KERNELS), [&](const Kernel& k) { return std::string(k.name) == name; });
    if (kernel == std::end(KERNELS))
        return "there is no such kernel";
    if (shared_bytes > MOST_SHARED)
        return "more shared memory than cards have";

    const int count = threads[0] * threads[1] * threads[2];
    Block here{};
    block = &here;
    here.kernel = kernel->run;
    here.arguments = arguments;
    here.barrier.expected = count;
    here.warps.resize((count + 31) / 32);
    for (size_t warp = 0; warp < here.warps.size(); warp++)
        here.warps[warp].barrier.expected = std::min<int>(32, count - 32 * warp);
    here.fibers.resize(count);
    for (int number = 0; number < count; number++) {
        Fiber& fiber = here.fibers[number];
        fiber.number = number;
        fiber.index = {number % threads[0], number / threads[0] % threads[1], number / threads[0] / threads[1]};
        fiber.stack.resize(64 * 1024);
    }
    blockDim = {threads[0], threads[1], threads[2]};
    try {
        for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
            for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
                for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
                    memset(shared, 0xff, sizeof shared);
                    run_block(backwards);
                    for (size_t byte = shared_bytes; byte < sizeof shared; byte++)
                        if (shared[byte] != 0xff)
                            throw Failure{"a write beyond the shared memory that was asked for"};
                }
    } catch (const Failure& error) {
        failure = error.reason;
    }
    return failure.c_str();
}
