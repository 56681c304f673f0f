/* The same, from a library that it opens while it runs, as the Go binding does. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

struct base {
    const void *(*get_api)(uint32_t version);
    const char *(*version)(void);
};

int main(void)
{
    void *library = dlopen("libonnxruntime.so.1", RTLD_NOW);
    if (!library)
        return puts(dlerror()), 1;
    const struct base *(*get_base)(void) = (const struct base *(*)(void))dlsym(library, "OrtGetApiBase");
    const struct base *base = get_base();
    const void *api = base->get_api(24);
    printf("ONNX Runtime %s: API 24 %s\n", base->version(), api ? "is there" : "is not there");
    return api == NULL;
}
