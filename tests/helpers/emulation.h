// Enough of CUDA to run sepconv.cu on a CPU, slowly and strictly: what the tests check it by where there is no GPU.
//
// A block is a set of fibers on one thread. They take turns, in order or backwards, and each runs until it waits for
// others. Instructions of a whole warp (mma, ldmatrix, shuffles) wait for all 32 lanes and then do what the manual of
// PTX says of them. Asynchronous copies arrive when they are waited for, and not before. Dynamic shared memory begins
// as NaN, and what lies behind it must stay so; static shared memory begins as the block before left it.

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(size)
#define __shared__ thread_local  // all fibers run on one thread; each block finds what the one before left

using std::max;
using std::min;

struct Dimensions {
    unsigned x, y, z;
};

struct int4 {
    int x, y, z, w;
};

thread_local Dimensions threadIdx, blockIdx, blockDim;

constexpr size_t MOST_SHARED = 99 * 1024, GUARD = 4096;  // the smallest limit of all cards since Ampere
alignas(16) thread_local unsigned char shared[MOST_SHARED + GUARD];

struct Failure {
    std::string reason;
};

// --- Fibers ----------------------------------------------------------------------------------------------------

struct Barrier {
    int expected, arrived, generation;
};

struct Copy {
    void* to;
    const void* from;
    int size;
};

struct Warp {
    Barrier barrier;
    unsigned char slots[2][32][64];  // what each lane brings; two of them, since the fastest may already bring the next
};

struct Fiber {
    ucontext_t context;
    std::vector<unsigned char> stack;
    Dimensions index;
    int number;
    bool finished;
    std::vector<Copy> copies;
    int collectives;  // that it took part in
};

struct Block {
    ucontext_t scheduler;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Barrier barrier;
    Fiber* running;
    void (*kernel)(const void*);
    const void* arguments;
    bool progress;
    std::string failure;
};

thread_local Block* block;

inline void run_fiber()
{
    block->kernel(block->arguments);
    block->running->finished = true;
    if (!block->running->copies.empty())
        block->failure = "a thread ended with copies that it did not wait for";
    block->progress = true;
    swapcontext(&block->running->context, &block->scheduler);
}

inline void wait(Barrier& barrier)
{
    const int generation = barrier.generation;
    block->progress = true;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        barrier.generation++;
    }
    Fiber* const self = block->running;
    while (barrier.generation == generation) {
        swapcontext(&self->context, &block->scheduler);
    }
}

inline void run_block(bool backwards)
{
    const int count = block->fibers.size();
    for (Fiber& fiber : block->fibers) {
        fiber.finished = false;
        fiber.collectives = 0;
        fiber.copies.clear();
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (int left = count; left > 0;) {
        block->progress = false;
        left = 0;
        for (int turn = 0; turn < count; turn++) {
            Fiber& fiber = block->fibers[backwards ? count - 1 - turn : turn];
            if (fiber.finished)
                continue;
            left++;
            block->running = &fiber;
            threadIdx = fiber.index;
            swapcontext(&block->scheduler, &fiber.context);
        }
        if (left && !block->progress)
            throw Failure{"threads wait for others that never come"};
    }
    if (!block->failure.empty())
        throw Failure{block->failure};
}

// --- What CUDA offers ------------------------------------------------------------------------------------------

inline void __syncthreads() { wait(block->barrier); }

// Gives each lane what all 32 brought.
template <typename T>
const T* gather(const T& mine)
{
    Fiber& self = *block->running;
    Warp& warp = block->warps[self.number / 32];
    auto& slots = warp.slots[self.collectives++ % 2];
    static_assert(sizeof(T) * 32 <= sizeof(slots), "a lane brings too much");
    T* const all = reinterpret_cast<T*>(slots);
    all[self.number % 32] = mine;
    wait(warp.barrier);
    return all;
}

inline void __syncwarp() { gather(0); }

inline float __shfl_xor_sync(unsigned, float value, int mask)
{
    return gather(value)[block->running->number % 32 ^ mask];
}

template <typename T>
T __ldg(const T* from)
{
    return *from;
}

struct Half;
struct BFloat16;
float widen(Half value);
float widen(BFloat16 value);

inline float as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline unsigned as_bits(float value)
{
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}

inline void check_alignment(const void* pointer, size_t alignment, const char* what)
{
    if (reinterpret_cast<size_t>(pointer) % alignment)
        block->failure = std::string(what) + " from or to an address that is not aligned";
}

inline void copy_later(void* to, const void* from, int size)
{
    check_alignment(to, 4, "copy");
    if (size)
        check_alignment(from, 4, "copy");
    block->running->copies.push_back({to, from, size});
}

inline void copies_done()
{
    for (const Copy& copy : block->running->copies) {
        memset(copy.to, 0, 4);
        if (copy.size)
            memcpy(copy.to, copy.from, copy.size);
    }
    block->running->copies.clear();
}

inline void load_matrices(unsigned (&result)[4], const void* row)
{
    check_alignment(row, 16, "ldmatrix");
    const void* const* rows = gather(row);
    const int lane = block->running->number % 32;
    for (int matrix = 0; matrix < 4; matrix++)
        memcpy(&result[matrix], static_cast<const char*>(rows[8 * matrix + lane / 4]) + 4 * (lane % 4), 4);
}

struct Fragments {
    unsigned left[4], right[2];
};

template <typename T>
void multiply(float (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2], T)
{
    Fragments mine;
    memcpy(mine.left, left, sizeof left);
    memcpy(mine.right, right, sizeof right);
    const Fragments* all = gather(mine);
    const int lane = block->running->number % 32;
    const auto value = [](unsigned word, int k) { return widen(T{(unsigned short)(word >> k % 2 * 16)}); };
    for (int index = 0; index < 4; index++) {
        const int row = lane / 4 + index / 2 * 8, column = lane % 4 * 2 + index % 2;
        for (int k = 0; k < 16; k++) {
            const unsigned of_left = all[row % 8 * 4 + k % 8 / 2].left[row / 8 + k / 8 * 2];
            const unsigned of_right = all[column * 4 + k % 8 / 2].right[k / 8];
            sums[index] += value(of_left, k) * value(of_right, k);
        }
    }
}
