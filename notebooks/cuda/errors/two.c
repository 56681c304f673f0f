/* Asks its own runtime of CUDA and the one of a plugin for their versions, and lists what is loaded. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int cudaRuntimeGetVersion(int *version);

int main(int count, char **words)
{
    int version = 0;
    void *plugin = dlopen(words[count - 1], RTLD_NOW);
    if (!plugin)
        return puts(dlerror()), 1;
    int (*its)(void) = (int (*)(void))dlsym(plugin, "its_version");
    cudaRuntimeGetVersion(&version);
    printf("the program has %d, its plugin %d\n", version, its());
    char line[4096], last[4096] = "";
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/');
        if (path && strstr(path, "libcudart") && strcmp(path, last))
            fputs(strcpy(last, path), stdout);
    }
    return version != its();
}
