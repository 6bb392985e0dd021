// Local separable convolution on NVIDIA GPUs; the formula, the shapes and the names are those of sepconv.py.
//
//   forward                  51 taps, 3 or 4 channels: multiply-adds in registers
//   forward_tensor_cores     the same for 16-bit types, as matrix products
//   backward_kernels         the gradients of `vertical` and `horizontal`, 51 taps, 3 or 4 channels
//   backward_frame           the gradient of `frame`, likewise
//   forward_any, backward_kernels_any, backward_frame_any
//                            any number of taps and channels, float64 too: plain loops, one thread for each result
//
// Sums are kept in float32 (float64 for float64). Every result is summed by the same threads in the same order: no
// atomics, the same call gives the same bits. Tensors may have any strides. No header is included, so that NVRTC alone
// is enough to compile this.
//
// The three kernels in registers share one plan. The arithmetic is 51 * 51 * channels multiply-adds for every pixel;
// what limits it is shared memory, which delivers one value in the time of four multiply-adds. So each value that is
// read has to serve many:
//
// * a warp is 32 neighbouring pixels of a row, a thread a column of ROWS pixels, all of which use the row of the frame
//   that was just read;
// * the horizontal kernels stay in registers. Four warps share the pixels of a tile and the 51 taps, 13 (the last 12)
//   each, and add up what they found at the end;
// * the frame and the vertical kernels come by in chunks of CHUNK rows.
//
// Kernels reach shared memory by threads that run along x or along the taps, whichever lies together in memory: where
// the network left them (channels_last), the 51 taps of a pixel do.

constexpr int TAPS = 51;
constexpr int LANES = 32;                          // of a warp
constexpr int WARPS = 4;                           // that share the pixels of a tile and the taps
constexpr int THREADS = WARPS * LANES;
constexpr int SHARE = (TAPS + WARPS - 1) / WARPS;  // taps of a warp
constexpr int CHUNK = 8;                           // rows of the frame in shared memory
constexpr int FRAME_WIDTH = LANES + TAPS - 1;
constexpr int PITCH = LANES + 4;                   // of rows that threads fill along 8 taps: 4 * tap + pixel hits every bank

// --- Types and instructions ------------------------------------------------------------------------------------

struct Half {
    unsigned short bits;
};

struct BFloat16 {
    unsigned short bits;
};

#ifdef __CUDACC__  // elsewhere (tests/emulation.h) these are written out as the manual of PTX defines them

__device__ __forceinline__ float widen(Half value)
{
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ __forceinline__ Half narrow(float value, Half)
{
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

__device__ __forceinline__ float as_float(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ unsigned as_bits(float value) { return __float_as_uint(value); }

// Four 8 x 8 matrices of 16-bit values; each lane gives the address of one row. `result[m]` holds, of matrix m, the
// values 2 * (lane % 4) and + 1 of row lane / 4.
__device__ __forceinline__ void load_matrices(unsigned (&result)[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

// Copies `size` of 4 bytes into shared memory, and zeros for the rest, while the thread goes on: what was copied is there
// after copies_done().
__device__ __forceinline__ void copy_later(void* to, const void* from, int size)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from),
                 "r"(size)
                 : "memory");
#else
    unsigned value = 0;
    if (size == 4)
        value = __ldg(static_cast<const unsigned*>(from));
    else if (size == 2)
        value = __ldg(static_cast<const unsigned short*>(from));
    *static_cast<unsigned*>(to) = value;
#endif
}

__device__ __forceinline__ void copies_done()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// sums += left * right: 16 x 8 from 16 x 16 and 16 x 8, as mma.m16n8k16 lays them out.
__device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2], Half)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

__device__ __forceinline__ void multiply(
    float (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2], BFloat16)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

#endif

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(BFloat16 value) { return as_float(unsigned(value.bits) << 16); }

__device__ __forceinline__ float narrow(float value, float) { return value; }
__device__ __forceinline__ double narrow(double value, double) { return value; }

// To nearest even, written out because cards before Ampere have no instruction for it.
__device__ __forceinline__ BFloat16 narrow(float value, BFloat16)
{
    const unsigned bits = as_bits(value);
    const unsigned rounded = value != value ? 0x7fc00000u : bits + 0x7fffu + (bits >> 16 & 1u);
    return {(unsigned short)(rounded >> 16)};
}

// Through the read-only path: the compiler may then ask for many values before the first is stored away.
__device__ __forceinline__ float fetch(const float* from) { return __ldg(from); }
__device__ __forceinline__ double fetch(const double* from) { return __ldg(from); }
__device__ __forceinline__ Half fetch(const Half* from) { return {__ldg(&from->bits)}; }
__device__ __forceinline__ BFloat16 fetch(const BFloat16* from) { return {__ldg(&from->bits)}; }

__device__ __forceinline__ bool is_tap(int tap) { return 0 <= tap && tap < TAPS; }

// Whether a pair of 16-bit values may be moved at once.
__device__ __forceinline__ bool is_aligned(const void* pointer) { return (unsigned long long)pointer % 4 == 0; }

// A value on its way into shared memory, or a zero.
template <typename T>
__device__ __forceinline__ void place(float& to, const T* from, bool present)
{
    to = present ? widen(fetch(from)) : 0.f;
}

__device__ __forceinline__ void place(float& to, const float* from, bool present)
{
    copy_later(&to, from, present ? 4 : 0);
}

// --- Tensors and tiles -----------------------------------------------------------------------------------------

template <typename T>
struct Tensor {
    T* data;
    long long stride[4];  // in elements: sample, channel or tap, row, column

    __device__ T* at(int n, int c, int y, int x) const
    {
        return data + n * stride[0] + c * stride[1] + y * stride[2] + x * stride[3];
    }

    __device__ auto value(int n, int c, int y, int x) const { return widen(fetch(at(n, c, y, x))); }

    template <typename Sum>
    __device__ void write(int n, int c, int y, int x, Sum sum) const
    {
        *at(n, c, y, x) = narrow(sum, T());
    }
};

// What every kernel takes, as cuda.py fills it in; tensors that a kernel does not need are null.
template <typename T>
struct Arguments {
    Tensor<T> frame, vertical, horizontal, out, grad_out, grad_frame, grad_vertical, grad_horizontal;
    int batch, channels, taps, height, width;  // of the output
};

static_assert(sizeof(Arguments<float>) == 344, "not what cuda.py fills in");

// Where the tile of this block lies. (From one grid of three dimensions: what is the same for all threads costs none of
// them a register.)
template <int ROWS, int COLUMNS>
struct Tile {
    const int n = blockIdx.z, top = blockIdx.y * ROWS, left = blockIdx.x * COLUMNS;
};

// Calls use(tap, pixel) for COUNT taps of PIXELS pixels, once each, neighbouring lanes being neighbours in memory.
// (Loops count from zero, and not from the thread's own place, so that the compiler knows how often they run.)
template <int COUNT, int PIXELS, typename T, typename Use>
__device__ __forceinline__ void for_each_tap(const Tensor<T>& kernels, Use use)
{
    const int lane = threadIdx.x, warp = threadIdx.y;
    if (kernels.stride[1] < kernels.stride[3]) {  // the taps of a pixel lie together
        constexpr int SIDE = COUNT > CHUNK ? LANES : CHUNK, STEP = THREADS / SIDE;
        const int column = (warp * LANES + lane) % SIDE, row = (warp * LANES + lane) / SIDE;
#pragma unroll(COUNT > CHUNK ? 1 : 4)
        for (int pixel = 0; pixel < PIXELS; pixel += STEP)
#pragma unroll
            for (int tap = 0; tap < COUNT; tap += SIDE)
                if ((pixel + STEP <= PIXELS || pixel + row < PIXELS) && (tap + SIDE <= COUNT || tap + column < COUNT))
                    use(tap + column, pixel + row);
    } else {
#pragma unroll(COUNT > CHUNK ? 1 : 4)
        for (int tap = 0; tap < COUNT; tap += WARPS)
#pragma unroll
            for (int pixel = 0; pixel < PIXELS; pixel += LANES)
                if ((tap + WARPS <= COUNT || tap + warp < COUNT) && (pixel + LANES <= PIXELS || pixel + lane < PIXELS))
                    use(tap + warp, pixel + lane);
    }
}

// The horizontal kernels of a row of a tile, zero outside the picture.
template <typename T, typename Tile>
__device__ __forceinline__ void load_horizontal(
    float (&kernels)[LANES][TAPS], const Arguments<T>& a, const Tile& tile, int row)
{
    const int y = tile.top + row, pixels = y < a.height ? a.width - tile.left : 0;
    const T* const from = a.horizontal.at(tile.n, 0, y, tile.left);
    for_each_tap<TAPS, LANES>(a.horizontal, [&](int tap, int pixel) {
        place(kernels[pixel][tap], from + tap * a.horizontal.stride[1] + pixel * a.horizontal.stride[3], pixel < pixels);
    });
}

// The taps of this thread's warp for each row of a tile, by way of shared memory.
template <int ROWS, typename T, typename Tile>
__device__ __forceinline__ void take_horizontal(
    float (&horizontal)[ROWS][SHARE], float (&kernels)[LANES][TAPS], const Arguments<T>& a, const Tile& tile, int begin,
    bool whole)
{
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        load_horizontal(kernels, a, tile, row);
        copies_done();
        __syncthreads();
#pragma unroll
        for (int k = 0; k < SHARE; k++)
            horizontal[row][k] = k < SHARE - 1 || whole ? kernels[threadIdx.x][begin + k] : 0.f;
        __syncthreads();
    }
}

// The rows `first` to `first` + CHUNK of what a tile sees of the frame, zero outside of it.
template <int CHANNELS, typename T, typename Tile>
__device__ __forceinline__ void load_frame(
    float (&rows)[CHANNELS][CHUNK][FRAME_WIDTH], const Arguments<T>& a, const Tile& tile, int first)
{
    const int lane = threadIdx.x, columns = a.width + TAPS - 1 - tile.left;
    const T* from = a.frame.at(tile.n, 0, tile.top + first, tile.left + lane);
#pragma unroll 1
    for (int c = 0; c < CHANNELS; c++, from += a.frame.stride[1])
#pragma unroll
        for (int next = 0; next < CHUNK; next += WARPS) {
            const int row = next + threadIdx.y;
            const bool present = tile.top + first + row < a.height + TAPS - 1;
#pragma unroll
            for (int column = 0; column < FRAME_WIDTH; column += LANES)
                if (column + lane < FRAME_WIDTH)
                    place(
                        rows[c][row][column + lane], from + row * a.frame.stride[2] + column * a.frame.stride[3],
                        present && column + lane < columns);
        }
}

// The taps of the vertical kernels that meet these rows of the frame: of pixel `row`, tap first + step - row.
template <int ROWS, typename T, typename Tile>
__device__ __forceinline__ void load_vertical(
    float (&taps)[ROWS][CHUNK][PITCH], const Arguments<T>& a, const Tile& tile, int first)
{
    const Tensor<T>& kernels = a.vertical;
    const T* from = kernels.at(tile.n, first, tile.top, tile.left);
#pragma unroll 1
    for (int row = 0; row < ROWS; row++, from += kernels.stride[2] - kernels.stride[1]) {
        const int pixels = tile.top + row < a.height ? a.width - tile.left : 0;
        for_each_tap<CHUNK, LANES>(kernels, [&](int step, int pixel) {
            const bool present = is_tap(first + step - row) && pixel < pixels;
            place(taps[row][step][pixel], from + step * kernels.stride[1] + pixel * kernels.stride[3], present);
        });
    }
}

// Adds up what the warps found for the pixels of a tile, in a fixed order, and writes it.
template <int ROWS, int CHANNELS, typename T, typename Tile>
__device__ __forceinline__ void write_sums(
    float (&partial)[WARPS][ROWS][CHANNELS][LANES], const float (&sums)[ROWS][CHANNELS], const Tensor<T>& out,
    const Tile& tile, int height, int width)
{
#pragma unroll
    for (int row = 0; row < ROWS; row++)
#pragma unroll
        for (int c = 0; c < CHANNELS; c++)
            partial[threadIdx.y][row][c][threadIdx.x] = sums[row][c];
    __syncthreads();
    const int x = tile.left + threadIdx.x;
    for (int index = threadIdx.y; index < ROWS * CHANNELS; index += WARPS) {
        const int row = index / CHANNELS, c = index % CHANNELS, y = tile.top + row;
        float sum = 0;
        for (int warp = 0; warp < WARPS; warp++)
            sum += partial[warp][row][c][threadIdx.x];
        if (y < height && x < width)
            out.write(tile.n, c, y, x, sum);
    }
}

// --- Forward ---------------------------------------------------------------------------------------------------

constexpr int FORWARD_ROWS = 6;  // 78 registers of horizontal kernels; 56 rows of the frame, which is 7 chunks

template <int CHANNELS>
union ForwardMemory {
    float horizontal[LANES][TAPS];
    struct {
        float frame[CHANNELS][CHUNK][FRAME_WIDTH];
        float vertical[FORWARD_ROWS][CHUNK][PITCH];
    };
    float partial[WARPS][FORWARD_ROWS][CHANNELS][LANES];
};

// sums += vertical * (horizontal * frame) for a chunk of rows. ALL: every row of the chunk meets every pixel.
template <bool ALL, int CHANNELS>
__device__ __forceinline__ void add_rows(
    float (&sums)[FORWARD_ROWS][CHANNELS], const ForwardMemory<CHANNELS>& memory,
    const float (&horizontal)[FORWARD_ROWS][SHARE], int first, int begin, bool whole)
{
    const int lane = threadIdx.x;
#pragma unroll 1
    for (int step = 0; step < CHUNK; step++) {
        float vertical[FORWARD_ROWS];
#pragma unroll
        for (int row = 0; row < FORWARD_ROWS; row++)
            vertical[row] = memory.vertical[row][step][lane];
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
            float lines[FORWARD_ROWS] = {};
#pragma unroll
            for (int k = 0; k < SHARE; k++) {
                if (k < SHARE - 1 || whole) {
                    const float pixel = memory.frame[c][step][lane + begin + k];
#pragma unroll
                    for (int row = 0; row < FORWARD_ROWS; row++)
                        lines[row] += horizontal[row][k] * pixel;
                }
            }
#pragma unroll
            for (int row = 0; row < FORWARD_ROWS; row++) {
                if (ALL || is_tap(first + step - row))
                    sums[row][c] += vertical[row] * lines[row];
            }
        }
    }
}

template <typename T, int CHANNELS>
__global__ void __launch_bounds__(THREADS, 3) forward(const Arguments<T> a)
{
    __shared__ ForwardMemory<CHANNELS> memory;
    const Tile<FORWARD_ROWS, LANES> tile;
    const int begin = threadIdx.y * SHARE;
    const bool whole = begin + SHARE <= TAPS;

    float horizontal[FORWARD_ROWS][SHARE];
    take_horizontal(horizontal, memory.horizontal, a, tile, begin, whole);

    float sums[FORWARD_ROWS][CHANNELS] = {};
    for (int first = 0; first < FORWARD_ROWS + TAPS - 1; first += CHUNK) {
        load_frame(memory.frame, a, tile, first);
        load_vertical(memory.vertical, a, tile, first);
        copies_done();
        __syncthreads();
        if (first >= FORWARD_ROWS - 1 && first + CHUNK <= TAPS)
            add_rows<true>(sums, memory, horizontal, first, begin, whole);
        else
            add_rows<false>(sums, memory, horizontal, first, begin, whole);
        __syncthreads();
    }
    write_sums(memory.partial, sums, a.out, tile, a.height, a.width);
}

// --- Forward on tensor cores -----------------------------------------------------------------------------------
//
// For 8 neighbouring pixels of a row, the horizontal pass over all rows of the frame that they see is one matrix
// product: (rows of the frame x 58 columns) times (58 columns x 8 pixels), where the column of a pixel is its
// horizontal kernel, shifted by the pixel's place, and zero elsewhere. With 64 rows and 64 columns that is 16
// mma.m16n8k16 for each channel. What is left is the vertical pass: 51 multiply-adds for each pixel and channel,
// where the products already are, in registers.
//
// A warp computes such a product for each of PATCH_ROWS rows: every part of the frame that it loads (ldmatrix) serves
// them all.
//
// Kernels lie in shared memory with PIXEL_PITCH values from pixel to pixel, those beyond the 51 taps being zero. The
// shifted matrix is then nothing but a way of reading them: value (u, pixel) lies at 73 * pixel + u - pixel, an even
// distance from (0, 0) for even u, so that pairs are read at once; the zeros before and behind are the neighbours'
// padding; and 72 / 2 = 4 modulo 32 keeps the 32 threads of a warp on 32 banks. The same zeros stand for the taps of
// the vertical kernels that a row of the frame does not meet. (What they are multiplied with is in the frame, too: a
// value of the frame that is not finite spreads to pixels up to 13 to the side and above or below.)

constexpr int PATCH = 8;                    // pixels of a row in one product
constexpr int PATCH_ROWS = 4;               // of a warp at a time
constexpr int MATRIX = 64;                  // rows and columns of the frame in one product
constexpr int PIXEL_PITCH = 73;
constexpr int LEAD = 8;                     // zeros before the first pixel
constexpr int PATCH_VALUES = LEAD + PATCH_ROWS * PATCH * PIXEL_PITCH;
constexpr int TENSOR_WARPS = 6;             // side by side
constexpr int TENSOR_COLUMNS = TENSOR_WARPS * PATCH;
constexpr int TENSOR_ROWS = 8;              // of a tile: two patches
constexpr int TENSOR_FRAME_ROWS = TENSOR_ROWS + TAPS - 1;
constexpr int TENSOR_FRAME_PITCH = TENSOR_COLUMNS - PATCH + MATRIX;  // an odd number of 16 bytes: no bank conflicts

extern __shared__ __align__(16) unsigned char shared[];

template <int CHANNELS>  // bytes of it
constexpr int TENSOR_MEMORY =
    2 * (CHANNELS * TENSOR_FRAME_ROWS * TENSOR_FRAME_PITCH + TENSOR_WARPS * PATCH_VALUES);

static_assert(TENSOR_MEMORY<1> % 16 == 0 && PATCH_VALUES % 8 == 0, "what is zeroed by 16 bytes");
static_assert(PIXEL_PITCH >= MATRIX + 7 && PATCH_ROWS + TAPS - 1 <= MATRIX, "the zeros do not suffice");

// The kernels of a patch; what lies between them stays as it is. The lanes of a warp run along what lies together.
template <typename T>
__device__ __forceinline__ void load_patch(
    T* patch, const Arguments<T>& a, const Tensor<T>& kernels, int n, int y, int x)
{
    const int lane = threadIdx.x;
    const int pixels = min(PATCH, a.width - x);
#pragma unroll 1
    for (int row = 0; row < min(PATCH_ROWS, a.height - y); row++) {
        T* const to = patch + LEAD + row * PATCH * PIXEL_PITCH;
        const T* const from = kernels.at(n, 0, y + row, x);
        const long long next_tap = kernels.stride[1], next_pixel = kernels.stride[3];
        if (next_tap == 1 && next_pixel % 2 && is_aligned(from)) {
            // Taps in pairs. An odd pixel begins between two pairs, here as there: its first tap is left over, and of
            // the even pixels the last.
#pragma unroll 1
            for (int pixel = 0; pixel < pixels; pixel++) {
                const int tap = pixel % 2 + 2 * lane;
                if (tap + 1 < TAPS)
                    copy_later(to + pixel * PIXEL_PITCH + tap, from + pixel * next_pixel + tap, 4);
            }
            const int tap = lane % 2 ? 0 : TAPS - 1;
            if (lane < pixels)
                to[lane * PIXEL_PITCH + tap] = fetch(from + lane * next_pixel + tap);
        } else {
            // Value by value; four pixels times eight taps at a time, or eight times four.
            const bool taps_together = next_tap < next_pixel;
            const int taps = taps_together ? LANES / 4 : LANES / PATCH;
#pragma unroll 1
            for (int pixel = taps_together ? lane / taps : lane % PATCH; pixel < pixels; pixel += LANES / taps) {
                int tap = taps_together ? lane % taps : lane / PATCH;
                const T* value = from + pixel * next_pixel + tap * next_tap;
#pragma unroll 2
                for (; tap < TAPS; tap += taps, value += taps * next_tap)
                    to[pixel * PIXEL_PITCH + tap] = fetch(value);
            }
        }
    }
    copies_done();
    __syncwarp();
}

// What a tile sees of the frame; rows and columns beyond it stay as they are.
template <int CHANNELS, typename T, typename Tile>
__device__ __forceinline__ void load_tensor_frame(T* frame, const Arguments<T>& a, const Tile& tile)
{
    const int columns = min(TENSOR_FRAME_PITCH, a.width + TAPS - 1 - tile.left);
    const int rows = min(TENSOR_FRAME_ROWS, a.height + TAPS - 1 - tile.top);
#pragma unroll 1
    for (int c = 0; c < CHANNELS; c++)
#pragma unroll 1
        for (int row = threadIdx.y; row < rows; row += TENSOR_WARPS) {
            T* const to = frame + (c * TENSOR_FRAME_ROWS + row) * TENSOR_FRAME_PITCH;
            const T* const from = a.frame.at(tile.n, c, tile.top + row, tile.left);
            if (a.frame.stride[3] == 1 && is_aligned(from)) {
#pragma unroll 1
                for (int column = 2 * threadIdx.x; column < TENSOR_FRAME_PITCH; column += 2 * LANES)
                    if (column < columns)
                        copy_later(to + column, from + column, column + 1 < columns ? 4 : 2);
            } else {
#pragma unroll 2
                for (int column = threadIdx.x; column < TENSOR_FRAME_PITCH; column += LANES)
                    if (column < columns)
                        to[column] = fetch(from + column * a.frame.stride[3]);
            }
        }
    copies_done();
}

// Two lanes, `distance` apart, each hold a part of two sums: one keeps the first, the other the second.
__device__ __forceinline__ float hand_over(float first, float second, bool keeps_second, int distance)
{
    return (keeps_second ? second : first) + __shfl_xor_sync(~0u, keeps_second ? first : second, distance);
}

// (With four channels, one block for each multiprocessor: two would spill registers.)
template <typename T, int CHANNELS>
__global__ void __launch_bounds__(TENSOR_WARPS * LANES, CHANNELS == 4) forward_tensor_cores(const Arguments<T> a)
{
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int group = lane / 4, pair = 2 * (lane % 4);  // how mma deals out rows and columns among the lanes
    T* const frame = reinterpret_cast<T*>(shared);  // [CHANNELS][TENSOR_FRAME_ROWS][TENSOR_FRAME_PITCH]
    T* const patch = frame + CHANNELS * TENSOR_FRAME_ROWS * TENSOR_FRAME_PITCH + warp * PATCH_VALUES;
    const Tile<TENSOR_ROWS, TENSOR_COLUMNS> tile;

    for (int index = warp * LANES + lane; index < TENSOR_MEMORY<CHANNELS> / 16; index += TENSOR_WARPS * LANES)
        reinterpret_cast<int4*>(shared)[index] = int4();
    __syncthreads();
    load_tensor_frame<CHANNELS>(frame, a, tile);
    __syncthreads();

    const int x = tile.left + warp * PATCH;
#pragma unroll 1
    for (int top = 0; top < TENSOR_ROWS; top += PATCH_ROWS) {
        const int y = tile.top + top;
        if (y >= a.height || x >= a.width)
            break;

        load_patch(patch, a, a.horizontal, tile.n, y, x);
        unsigned horizontal[PATCH_ROWS][MATRIX / 16][2];  // of each row, 16 columns of the frame: the two halves
#pragma unroll
        for (int row = 0; row < PATCH_ROWS; row++)
#pragma unroll
            for (int columns = 0; columns < MATRIX; columns += 8)
                horizontal[row][columns / 16][columns / 8 % 2] = *reinterpret_cast<const unsigned*>(
                    patch + LEAD + (row * PATCH + group) * PIXEL_PITCH + columns + pair - group);
        __syncwarp();
        load_patch(patch, a, a.vertical, tile.n, y, x);

        float sums[CHANNELS][PATCH_ROWS][2] = {};  // of the lane's pair of pixels, the part of its rows of the frame
#pragma unroll 1
        for (int rows = 0; rows < MATRIX; rows += 16) {
            float vertical[PATCH_ROWS][2][2];  // for the lane's two rows of the frame, `group` and 8 below; pixel
#pragma unroll
            for (int row = 0; row < PATCH_ROWS; row++)
#pragma unroll
                for (int index = 0; index < 4; index++)
                    vertical[row][index / 2][index % 2] = widen(
                        patch[LEAD + (row * PATCH + pair + index % 2) * PIXEL_PITCH
                              + rows + index / 2 * 8 + group - row]);
            const int line = min(top + rows + lane % 16, TENSOR_FRAME_ROWS - 1);  // below, any row: its taps are zero
            const T* from = frame + line * TENSOR_FRAME_PITCH + warp * PATCH + lane / 16 * 8;
#pragma unroll
            for (int c = 0; c < CHANNELS; c++) {
                float products[PATCH_ROWS][4] = {};
#pragma unroll
                for (int columns = 0; columns < MATRIX; columns += 16) {
                    unsigned pixels[4];
                    load_matrices(pixels, from + c * TENSOR_FRAME_ROWS * TENSOR_FRAME_PITCH + columns);
#pragma unroll
                    for (int row = 0; row < PATCH_ROWS; row++)
                        multiply(products[row], pixels, horizontal[row][columns / 16], T());
                }
#pragma unroll
                for (int row = 0; row < PATCH_ROWS; row++)
#pragma unroll
                    for (int index = 0; index < 4; index++)
                        sums[c][row][index % 2] += vertical[row][index / 2][index % 2] * products[row][index];
            }
        }

        // The eight lanes of a pair of pixels hold parts of 4 * 2 sums: each hands over half of what it has, three
        // times, and ends with the whole sum of one pixel.
        const bool lower = lane & 16, second = lane & 8, right = lane & 4;
        const int row = 2 * lower + second, pixel = pair + right;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
            float half[2][2], quarter[2];
#pragma unroll
            for (int index = 0; index < 4; index++) {
                const float above = sums[c][index / 2][index % 2], below = sums[c][2 + index / 2][index % 2];
                half[index / 2][index % 2] = hand_over(above, below, lower, 16);
            }
#pragma unroll
            for (int index = 0; index < 2; index++)
                quarter[index] = hand_over(half[0][index], half[1][index], second, 8);
            const float sum = hand_over(quarter[0], quarter[1], right, 4);
            if (y + row < a.height && x + pixel < a.width)
                a.out.write(tile.n, c, y + row, x + pixel, sum);
        }
        __syncwarp();
    }
}

// --- Gradients of the kernels ----------------------------------------------------------------------------------
//
// With s_ij = sum_c grad_out_c * frame_c[y + i, x + j], which both need, the gradients of vertical and horizontal are
// sum_j s_ij * horizontal_j and sum_i s_ij * vertical_i.

constexpr int GRADIENT_ROWS = 4;

template <int CHANNELS>
union GradientMemory {
    float horizontal[LANES][TAPS];
    struct {
        float frame[CHANNELS][CHUNK][FRAME_WIDTH];
        float vertical[GRADIENT_ROWS][CHUNK][PITCH];
        float partial[WARPS][GRADIENT_ROWS][CHUNK][PITCH];
    };
};

template <typename T, int CHANNELS>
__global__ void __launch_bounds__(THREADS, 3) backward_kernels(const Arguments<T> a)
{
    __shared__ GradientMemory<CHANNELS> memory;
    const Tile<GRADIENT_ROWS, LANES> tile;
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int begin = warp * SHARE;
    const bool whole = begin + SHARE <= TAPS;

    float horizontal[GRADIENT_ROWS][SHARE], grad_horizontal[GRADIENT_ROWS][SHARE] = {};
    take_horizontal(horizontal, memory.horizontal, a, tile, begin, whole);
    float grad_out[GRADIENT_ROWS][CHANNELS];
#pragma unroll
    for (int row = 0; row < GRADIENT_ROWS; row++)
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
            const int y = tile.top + row, x = tile.left + lane;
            grad_out[row][c] = y < a.height && x < a.width ? a.grad_out.value(tile.n, c, y, x) : 0.f;
        }

    for (int first = 0; first < GRADIENT_ROWS + TAPS - 1; first += CHUNK) {
        load_frame(memory.frame, a, tile, first);
        load_vertical(memory.vertical, a, tile, first);
        copies_done();
        __syncthreads();
#pragma unroll 1
        for (int step = 0; step < CHUNK; step++) {
            float vertical[GRADIENT_ROWS], grad_vertical[GRADIENT_ROWS] = {};
            bool met[GRADIENT_ROWS];
#pragma unroll
            for (int row = 0; row < GRADIENT_ROWS; row++) {
                vertical[row] = memory.vertical[row][step][lane];
                met[row] = is_tap(first + step - row);
            }
#pragma unroll
            for (int k = 0; k < SHARE; k++) {
                if (k < SHARE - 1 || whole) {
                    float pixel[CHANNELS];
#pragma unroll
                    for (int c = 0; c < CHANNELS; c++)
                        pixel[c] = memory.frame[c][step][lane + begin + k];
#pragma unroll
                    for (int row = 0; row < GRADIENT_ROWS; row++) {
                        if (met[row]) {
                            float product = 0;
#pragma unroll
                            for (int c = 0; c < CHANNELS; c++)
                                product += grad_out[row][c] * pixel[c];
                            grad_vertical[row] += horizontal[row][k] * product;
                            grad_horizontal[row][k] += vertical[row] * product;
                        }
                    }
                }
            }
#pragma unroll
            for (int row = 0; row < GRADIENT_ROWS; row++)
                memory.partial[warp][row][step][lane] = grad_vertical[row];
        }
        __syncthreads();
        if (a.grad_vertical.data) {
#pragma unroll
            for (int row = 0; row < GRADIENT_ROWS; row++) {
                const int y = tile.top + row;
                for_each_tap<CHUNK, LANES>(a.grad_vertical, [&](int step, int pixel) {
                    const int tap = first + step - row, x = tile.left + pixel;
                    float sum = 0;
                    for (int part = 0; part < WARPS; part++)
                        sum += memory.partial[part][row][step][pixel];
                    if (is_tap(tap) && y < a.height && x < a.width)
                        a.grad_vertical.write(tile.n, tap, y, x, sum);
                });
            }
        }
        __syncthreads();
    }

    if (a.grad_horizontal.data) {
#pragma unroll
        for (int row = 0; row < GRADIENT_ROWS; row++) {
#pragma unroll
            for (int k = 0; k < SHARE; k++)
                if (k < SHARE - 1 || whole)
                    memory.horizontal[lane][begin + k] = grad_horizontal[row][k];
            __syncthreads();
            const int y = tile.top + row;
            for_each_tap<TAPS, LANES>(a.grad_horizontal, [&](int tap, int pixel) {
                const int x = tile.left + pixel;
                if (y < a.height && x < a.width)
                    a.grad_horizontal.write(tile.n, tap, y, x, memory.horizontal[pixel][tap]);
            });
            __syncthreads();
        }
    }
}

// --- Gradient of the frame -------------------------------------------------------------------------------------
//
// Each pixel of the frame gathers from all that it went into:
//
//     grad_frame[c, y, x] = sum_i sum_j grad_out[c, y - i, x - j] * vertical[i, y - i, x - j] * horizontal[j, y - i, x - j]
//
// Here a tile is one of the frame, and what comes by, row by row, are the output's gradient and the kernels.

constexpr int FRAME_ROWS = 8;
constexpr int ODD_PITCH = FRAME_WIDTH + 1;  // threads that run along the taps fill a column

template <int CHANNELS>
union FrameMemory {
    struct {
        float horizontal[TAPS][ODD_PITCH];
        float vertical[FRAME_ROWS][ODD_PITCH];
        float grad_out[CHANNELS][ODD_PITCH];
    };
    float partial[WARPS][FRAME_ROWS][CHANNELS][LANES];
};

template <typename T, int CHANNELS>
__global__ void __launch_bounds__(THREADS, 4) backward_frame(const Arguments<T> a)
{
    __shared__ FrameMemory<CHANNELS> memory;
    const int height = a.height + TAPS - 1, width = a.width + TAPS - 1;
    const Tile<FRAME_ROWS, LANES> tile;
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int begin = warp * SHARE;
    const bool whole = begin + SHARE <= TAPS;
    const int left = tile.left - (TAPS - 1);  // of what reaches the tile
    float sums[FRAME_ROWS][CHANNELS] = {};

    for (int y = max(0, tile.top - (TAPS - 1)); y < min(a.height, tile.top + FRAME_ROWS); y++) {
        const int first = tile.top - y;  // the tap by which the tile's first row is reached, and so on downwards
        for_each_tap<TAPS, FRAME_WIDTH>(a.horizontal, [&](int tap, int pixel) {
            const int x = left + pixel;
            place(memory.horizontal[tap][pixel], a.horizontal.at(tile.n, tap, y, x), 0 <= x && x < a.width);
        });
        for_each_tap<FRAME_ROWS, FRAME_WIDTH>(a.vertical, [&](int row, int pixel) {
            const int tap = first + row, x = left + pixel;
            const bool inside = is_tap(tap) && 0 <= x && x < a.width;
            place(memory.vertical[row][pixel], a.vertical.at(tile.n, tap, y, x), inside);
        });
        for (int index = warp * LANES + lane; index < CHANNELS * FRAME_WIDTH; index += THREADS) {
            const int c = index / FRAME_WIDTH, pixel = index % FRAME_WIDTH, x = left + pixel;
            place(memory.grad_out[c][pixel], a.grad_out.at(tile.n, c, y, x), 0 <= x && x < a.width);
        }
        copies_done();
        __syncthreads();
        bool met[FRAME_ROWS];
#pragma unroll
        for (int row = 0; row < FRAME_ROWS; row++)
            met[row] = is_tap(first + row);
#pragma unroll
        for (int k = 0; k < SHARE; k++) {
            if (k < SHARE - 1 || whole) {
                const int pixel = lane + TAPS - 1 - begin - k;
                const float horizontal = memory.horizontal[begin + k][pixel];
                float grad_out[CHANNELS];
#pragma unroll
                for (int c = 0; c < CHANNELS; c++)
                    grad_out[c] = memory.grad_out[c][pixel];
#pragma unroll
                for (int row = 0; row < FRAME_ROWS; row++) {
                    if (met[row]) {
                        const float weight = horizontal * memory.vertical[row][pixel];
#pragma unroll
                        for (int c = 0; c < CHANNELS; c++)
                            sums[row][c] += grad_out[c] * weight;
                    }
                }
            }
        }
        __syncthreads();
    }
    write_sums(memory.partial, sums, a.grad_frame, tile, height, width);
}

// --- Any number of taps and channels ---------------------------------------------------------------------------

// Counts down what a thread is to compute: takes the remainder off `index`, and returns it.
__device__ __forceinline__ int split(long long& index, int size)
{
    const int remainder = index % size;
    index /= size;
    return remainder;
}

__device__ __forceinline__ long long global_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

template <typename T>
__global__ void forward_any(const Arguments<T> a)
{
    long long index = global_thread();
    const int x = split(index, a.width), y = split(index, a.height), c = split(index, a.channels);
    if (index >= a.batch)
        return;
    const int n = index;
    decltype(widen(T())) sum = 0;
    for (int i = 0; i < a.taps; i++) {
        decltype(sum) line = 0;
        for (int j = 0; j < a.taps; j++)
            line += a.horizontal.value(n, j, y, x) * a.frame.value(n, c, y + i, x + j);
        sum += a.vertical.value(n, i, y, x) * line;
    }
    a.out.write(n, c, y, x, sum);
}

template <typename T>
__global__ void backward_kernels_any(const Arguments<T> a)
{
    long long index = global_thread();
    const int x = split(index, a.width), y = split(index, a.height), tap = split(index, a.taps);
    if (index >= a.batch)
        return;
    const int n = index;
    decltype(widen(T())) grad_vertical = 0, grad_horizontal = 0;
    for (int other = 0; other < a.taps; other++) {
        decltype(grad_vertical) across = 0, down = 0;
        for (int c = 0; c < a.channels; c++) {
            const auto grad_out = a.grad_out.value(n, c, y, x);
            across += grad_out * a.frame.value(n, c, y + tap, x + other);
            down += grad_out * a.frame.value(n, c, y + other, x + tap);
        }
        grad_vertical += across * a.horizontal.value(n, other, y, x);
        grad_horizontal += down * a.vertical.value(n, other, y, x);
    }
    if (a.grad_vertical.data)
        a.grad_vertical.write(n, tap, y, x, grad_vertical);
    if (a.grad_horizontal.data)
        a.grad_horizontal.write(n, tap, y, x, grad_horizontal);
}

template <typename T>
__global__ void backward_frame_any(const Arguments<T> a)
{
    long long index = global_thread();
    const int x = split(index, a.width + a.taps - 1), y = split(index, a.height + a.taps - 1);
    const int c = split(index, a.channels);
    if (index >= a.batch)
        return;
    const int n = index;
    decltype(widen(T())) sum = 0;
    for (int i = max(0, y - a.height + 1); i <= min(a.taps - 1, y); i++)
        for (int j = max(0, x - a.width + 1); j <= min(a.taps - 1, x); j++)
            sum += a.grad_out.value(n, c, y - i, x - j) * a.vertical.value(n, i, y - i, x - j)
                * a.horizontal.value(n, j, y - i, x - j);
    a.grad_frame.write(n, c, y, x, sum);
}
