/* Opens CUDA's linker of PTX with the function that the header of 12.9 names. */
#include <stdio.h>

int __nvJitLinkCreate_12_9(void **handle, unsigned count, const char **options);

int main(void)
{
    void *handle = NULL;
    const char *options[] = {"-arch=sm_80"};
    int status = __nvJitLinkCreate_12_9(&handle, 1, options);
    printf("nvJitLink: status %d\n", status);
    return status;
}
