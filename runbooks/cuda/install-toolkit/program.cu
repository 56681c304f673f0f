// Says which CUDA compiled it, which runtime it got, from which file, and what that says of the driver.
#include <cstdio>
#include <dlfcn.h>

__global__ void seven(int *place) { *place = 7; }

int main() {
    int runtime = 0, driver = 0, cards = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    Dl_info found = {};
    dladdr(dlsym(RTLD_DEFAULT, "cudaRuntimeGetVersion"), &found);
    std::printf("compiled %d.%d, runs with %d.%d from %s\n", CUDART_VERSION / 1000,
                CUDART_VERSION % 1000 / 10, runtime / 1000, runtime % 1000 / 10, found.dli_fname);
    cudaError_t status = cudaGetDeviceCount(&cards);
    std::printf("driver takes %d.%d, cards %d, status %d: %s\n", driver / 1000, driver % 1000 / 10,
                cards, status, cudaGetErrorString(status));
    if (status != cudaSuccess)
        return 0; // no card, or no driver for this runtime: nothing that the compiler did
    int *place = nullptr;
    status = cudaMallocManaged(&place, sizeof *place);
    if (status == cudaSuccess) {
        seven<<<1, 1>>>(place);
        status = cudaDeviceSynchronize();
    }
    std::printf("on the card: %s\n", cudaGetErrorString(status));
    return status == cudaSuccess && *place == 7 ? 0 : 1;
}
