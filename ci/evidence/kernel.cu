// Adds two vectors on the card, compares with the processor, and says every error with its number.
#include <cstdio>
#include <cuda_runtime.h>

__global__ void add(const float *a, const float *b, float *sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + b[i];
}

static int failed(const char *what) {
    cudaError_t error = cudaGetLastError();
    std::printf("%s: %d, %s\n", what, error, cudaGetErrorString(error));
    return error != cudaSuccess;
}

int main() {
    const int n = 1 << 16;
    float *a, *b, *sum;
    cudaMallocManaged(&a, n * sizeof *a);
    cudaMallocManaged(&b, n * sizeof *b);
    cudaMallocManaged(&sum, n * sizeof *sum);
    if (failed("memory")) return 1;
    for (int i = 0; i < n; i++) a[i] = i, b[i] = 2 * i;
    add<<<n / 256, 256>>>(a, b, sum, n);
    if (failed("start of the kernel")) return 1;
    cudaDeviceSynchronize();
    if (failed("end of the kernel")) return 1;
    for (int i = 0; i < n; i++)
        if (sum[i] != 3.0f * i) return std::printf("%d is wrong\n", i), 1;
    std::puts("all sums are right");
    return 0;
}
