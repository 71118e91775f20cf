#include "sim/models.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define VRAM_TOTAL (24ll << 30)

static const char *const folder_names[MODELS_FOLDERS] = {
    "checkpoints", "loras", "vae", "diffusion_models", "text_encoders", "upscale_models"};
static const char *const usual[MODELS_FOLDERS] = {
    "sd15.safetensors,sdxl.safetensors",
    "detail.safetensors,style.safetensors",
    "ae.safetensors",
    "flux1-dev.safetensors",
    "clip_l.safetensors,t5xxl_fp16.safetensors",
    "4x-UltraSharp.pth",
};

static void add_list(struct models *m, enum model_folder f, const char *list)
{
    while (*list) {
        size_t n = strcspn(list, ",");

        if (n > 0) {
            m->name[f] = xrealloc(m->name[f], (m->n[f] + 1) * sizeof(char *));
            m->name[f][m->n[f]++] = xstrndup(list, n);
        }
        list += n + (list[n] == ',');
    }
}

void models_init(struct models *m, const char *checkpoints, size_t keep)
{
    *m = (struct models){.max_held = keep};
    if (checkpoints && strcmp(checkpoints, "none") == 0)
        return;
    for (int f = 0; f < MODELS_FOLDERS; f++)
        add_list(m, f, f == MODELS_CHECKPOINTS && checkpoints ? checkpoints : usual[f]);
}

void models_fini(struct models *m)
{
    models_unload(m);
    free(m->held);
    for (int f = 0; f < MODELS_FOLDERS; f++) {
        for (size_t i = 0; i < m->n[f]; i++)
            free(m->name[f][i]);
        free(m->name[f]);
    }
}

const char *models_folder_name(enum model_folder f)
{
    return folder_names[f];
}

/* A made-up but steady size: 2 to 7 GiB, by the name. */
static int64_t size_of(const char *name)
{
    unsigned h = 0;

    for (; *name; name++)
        h = h * 31 + (unsigned char)*name;
    return (2ll << 30) + (int64_t)(h % 5) * (1ll << 30);
}

int64_t models_use(struct models *m, const char *name)
{
    for (size_t i = 0; i < m->n_held; i++)
        if (strcmp(m->held[i], name) == 0) {
            char *mine = m->held[i];

            memmove(&m->held[i], &m->held[i + 1], (m->n_held - i - 1) * sizeof(char *));
            m->held[m->n_held - 1] = mine;
            return 0;
        }
    m->loads++;
    if (m->max_held > 0) {
        if (m->n_held == m->max_held) {
            free(m->held[0]);
            memmove(&m->held[0], &m->held[1], --m->n_held * sizeof(char *));
        }
        m->held = xrealloc(m->held, (m->n_held + 1) * sizeof(char *));
        m->held[m->n_held++] = xstrdup(name);
    }
    return 300 * (size_of(name) >> 30); /* 600 ms to 1.8 s: a fast disk */
}

void models_unload(struct models *m)
{
    while (m->n_held > 0)
        free(m->held[--m->n_held]);
}

int64_t models_vram_total(void)
{
    return VRAM_TOTAL;
}

int64_t models_vram_used(const struct models *m)
{
    int64_t used = 512ll << 20;

    for (size_t i = 0; i < m->n_held; i++)
        used += size_of(m->held[i]);
    return used < VRAM_TOTAL ? used : VRAM_TOTAL;
}
