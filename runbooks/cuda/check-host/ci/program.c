/* Asks the runtime for cards, and carries a fat binary as nvcc would put it in. */
__asm__(".section .nv_fatbin, \"a\"\n.balign 8\n.incbin \"kernel.fatbin\"\n.text");

int cudaGetDeviceCount(int *count);

int main(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count);
}
