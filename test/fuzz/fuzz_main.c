/* Runs a fuzz target over kept inputs: every argument is a file or a folder of files. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data;
    size_t n;

    if (f == NULL || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode)) {
        if (f)
            fclose(f);
        return 0;
    }
    data = malloc((size_t)st.st_size + 1);
    n = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    if (data)
        LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

static unsigned run(const char *path)
{
    DIR *d = opendir(path);
    unsigned n = 0;

    if (d == NULL)
        return run_file(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char *full = NULL;

        if (e->d_name[0] != '.' && asprintf(&full, "%s/%s", path, e->d_name) > 0)
            n += run_file(full);
        free(full);
    }
    closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    unsigned n = 0;

    for (int i = 1; i < argc; i++)
        n += run(argv[i]);
    printf("%u inputs\n", n);
    return n > 0 ? 0 : 1; /* a corpus that is not found is no success */
}
