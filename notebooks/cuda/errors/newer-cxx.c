/* Calls what GCC 13 and later put into each C++ program that writes. */
#include <stdio.h>

void _ZSt21ios_base_library_initv(void);

int main(void)
{
    _ZSt21ios_base_library_initv();
    return puts("it runs") < 0;
}
