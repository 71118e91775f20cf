/* The models a server has on its disk and the few it holds in memory: enough to play loading times and memory
 * numbers. Loop thread only. */
#ifndef SIM_MODELS_H
#define SIM_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_folder {
    MODELS_CHECKPOINTS,
    MODELS_LORAS,
    MODELS_VAE,
    MODELS_UNET,
    MODELS_CLIP,
    MODELS_UPSCALE,
    MODELS_FOLDERS
};

struct models {
    char **name[MODELS_FOLDERS];
    size_t n[MODELS_FOLDERS];
    char **held; /* least recently used first */
    size_t n_held, max_held;
    int64_t loads; /* since the start */
};
/* checkpoints: comma-separated; NULL: two usual names and some files in each other folder; "none": nothing
 * anywhere. keep: how many stay in memory. */
void models_init(struct models *m, const char *checkpoints, size_t keep);
void models_fini(struct models *m);
const char *models_folder_name(enum model_folder f); /* "checkpoints" ... */
/* Marks the model as used; gives how long loading it takes, 0 if it is held. */
int64_t models_use(struct models *m, const char *name);
void models_unload(struct models *m);
int64_t models_vram_total(void);
int64_t models_vram_used(const struct models *m);

#endif
