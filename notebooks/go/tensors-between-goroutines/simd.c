/* Adds four numbers from a place that is aligned to 64, 16 or 4 bytes: simd OFFSET aligned|any */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef float whole __attribute__((vector_size(16)));
typedef float any __attribute__((vector_size(16), aligned(4)));

static float room[64] __attribute__((aligned(64)));

int main(int argc, char **argv)
{
    volatile uintptr_t place = (uintptr_t)room + (uintptr_t)atoi(argv[1]);
    int needs = argc > 2 && strcmp(argv[2], "aligned") == 0;

    for (int i = 0; i < 64; i++)
        room[i] = 1;
    whole sum = needs ? *(volatile whole *)place : *(volatile any *)place;
    printf("%s at %s bytes: sum %g\n", argv[2], argv[1], sum[0] + sum[1] + sum[2] + sum[3]);
    return 0;
}
