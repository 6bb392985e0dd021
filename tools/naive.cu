// The baseline of tools.speed on a GPU: the op as it is usually written, one thread for each element of the output, which
// reads both kernels anew. Compiled together with sepconv.cu. COMPENSATED: with Kahan's compensated sum.

template <typename T, bool COMPENSATED>
__global__ void naive(const Arguments<T> a)
{
    long long index = global_thread();
    const int x = split(index, a.width), y = split(index, a.height), c = split(index, a.channels);
    if (index >= a.batch)
        return;
    const int n = index;
    float sum = 0, lost = 0;
    for (int i = 0; i < a.taps; i++)
        for (int j = 0; j < a.taps; j++) {
            const float product = a.frame.value(n, c, y + i, x + j) * a.vertical.value(n, i, y, x)
                * a.horizontal.value(n, j, y, x);
            if (COMPENSATED) {
                const float term = product - lost, next = sum + term;
                lost = next - sum - term;
                sum = next;
            } else {
                sum += product;
            }
        }
    a.out.write(n, c, y, x, sum);
}
