/* Asks the runtime for cards. It ends well where the driver is new enough, whether it has a card or not. */
#include <stdio.h>

enum { NO_DEVICE = 100 };

int cudaGetDeviceCount(int *count);
const char *cudaGetErrorString(int status);

int main(void)
{
    int count = 0, status = cudaGetDeviceCount(&count);
    printf("%d cards, status %d: %s\n", count, status, cudaGetErrorString(status));
    return status && status != NO_DEVICE;
}
