/* Asks for the oldest memcpy there is, where the C library has had a newer one since 2.14. */
#include <stdio.h>
#include <string.h>

__asm__(".symver memcpy, memcpy@" OLDEST);

int main(int argc, char **argv)
{
	char copy[64];

	memcpy(copy, argv[0], (size_t)argc);
	copy[argc] = 0;
	printf("copied %d byte\n", argc);
	return 0;
}
