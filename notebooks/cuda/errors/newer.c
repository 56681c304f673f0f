/* Uses a function that glibc has from 2.38 on. */
#include <stdio.h>
#include <string.h>

int main(int count, char **words)
{
    char name[64];
    strlcpy(name, words[count - 1], sizeof name);
    return puts(name) < 0;
}
