/* Asks ONNX Runtime for the newest interface that the Go binding's headers have. */
#include <stdint.h>
#include <stdio.h>

struct base {
    const void *(*get_api)(uint32_t version);
    const char *(*version)(void);
};

const struct base *OrtGetApiBase(void);

int main(void)
{
    const struct base *base = OrtGetApiBase();
    const void *api = base->get_api(24);
    printf("ONNX Runtime %s: API 24 %s\n", base->version(), api ? "is there" : "is not there");
    return api == NULL;
}
