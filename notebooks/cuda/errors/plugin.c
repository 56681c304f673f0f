/* A plugin of two.c, with a runtime of its own. */
int cudaRuntimeGetVersion(int *version);

int its_version(void)
{
    int version = 0;
    cudaRuntimeGetVersion(&version);
    return version;
}
