#include "api/choices.h"

#include <stdlib.h>
#include <string.h>

#include "comfy/names.h"

struct choices {
    atomic_uint refs;
    char **names; /* with their folders, in order */
    size_t n;
};

struct choices *choices_new(const struct store_file *f, size_t n)
{
    struct choices *c = xcalloc(1, sizeof(*c));

    atomic_init(&c->refs, 1);
    c->names = xcalloc(n, sizeof(char *));
    for (size_t i = 0; i < n; i++)
        c->names[c->n++] =
            f[i].subfolder[0] ? xasprintf("%s/%s", f[i].subfolder, f[i].name) : xstrdup(f[i].name);
    return c;
}

struct choices *choices_ref(struct choices *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void choices_unref(struct choices *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < c->n; i++)
        free(c->names[i]);
    free(c->names);
    free(c);
}

#define KIND(k) (1u << (k))
#define ANY_KIND (~0u)

/* Which kinds of files a chooser takes, and from which folder: ComfyUI's loaders list the top of the input folder, those of
 * 3D models what is below 3d. */
static unsigned kinds_of(const struct object_class *cls, const struct object_input *in, const char **folder)
{
    static const struct {
        const char *option;
        unsigned kinds;
    } rules[] = {
        {"video_upload", KIND(NAME_VIDEO)},
        {"audio_upload", KIND(NAME_AUDIO) | KIND(NAME_VIDEO)},
        {"animated_image_upload", KIND(NAME_IMAGE)},
        {"image_upload", KIND(NAME_IMAGE)},
    };

    *folder = "";
    if (str_starts(cls->name, "Load3D")) {
        *folder = "3d/";
        return KIND(NAME_3D);
    }
    if (str_is(cls->name, "LoadImageMask"))
        return ANY_KIND;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (json_truthy(json_get(in->options, rules[i].option)))
            return rules[i].kinds;
    return ANY_KIND;
}

bool choices_put(void *arg, const struct object_class *cls, const struct object_input *in, struct buf *list)
{
    const struct choices *c = arg;
    const char *folder, *sep = "";
    unsigned kinds = kinds_of(cls, in, &folder);
    size_t skip = strlen(folder);

    buf_putc(list, '[');
    for (size_t i = 0; i < c->n; i++) {
        const char *name = c->names[i];

        if (strncmp(name, folder, skip) != 0 || (skip == 0 && strchr(name, '/')) ||
            !(kinds & KIND(name_kind_of(name, strlen(name)))))
            continue;
        buf_puts(list, sep);
        sep = ", ";
        json_put_str(list, name);
    }
    buf_putc(list, ']');
    return true;
}
