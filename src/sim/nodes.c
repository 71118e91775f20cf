#include "sim/nodes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/splice.h"

extern const char object_info_json[];
extern const size_t object_info_json_len;

/* --- data --- */

struct data *data_new(enum data_kind kind)
{
    struct data *d = xcalloc(1, sizeof(*d));

    atomic_init(&d->refs, 1);
    d->kind = kind;
    return d;
}

struct data *data_value(struct val *v)
{
    struct data *d = data_new(DATA_VALUE);

    d->value = v;
    return d;
}

struct data *data_image(struct image *im)
{
    struct data *d = data_new(DATA_IMAGE);

    d->image = im;
    return d;
}

struct data *data_text(enum data_kind kind, const char *text)
{
    struct data *d = data_new(kind);

    d->text = xstrdup_null(text);
    return d;
}

struct data *data_ref(struct data *d)
{
    if (d)
        atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void data_unref(struct data *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
        return;
    val_free(d->value);
    image_unref(d->image);
    free(d->text);
    free(d->seed);
    free(d);
}

struct val *data_format(const struct data *d)
{
    struct buf b = BUF_INIT;
    struct val *v;

    if (d->kind == DATA_VALUE && d->value->type != VAL_ARR && d->value->type != VAL_OBJ)
        return val_copy(d->value);
    if (d->kind == DATA_VALUE)
        val_put_repr(&b, d->value);
    else if (d->kind == DATA_IMAGE)
        image_print(d->image, &b);
    else if (d->kind == DATA_LATENT)
        buf_printf(&b, "{'samples': tensor(..., size=(%u, 4, %u, %u))}", d->n, d->h / 8, d->w / 8);
    else
        buf_printf(&b, "<simulated %s>", d->text ? d->text : "object");
    v = val_strn(buf_str(&b), b.len);
    buf_free(&b);
    return v;
}

/* --- the registry --- */

static struct object_info *catalog; /* the classes point into it */
static struct node_class *classes;
static size_t n_classes;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    const char *input;
    enum model_folder folder;
} model_inputs[] = {
    {"ckpt_name", MODELS_CHECKPOINTS}, {"lora_name", MODELS_LORAS},    {"vae_name", MODELS_VAE},
    {"unet_name", MODELS_UNET},        {"clip_name", MODELS_CLIP},     {"clip_name1", MODELS_CLIP},
    {"clip_name2", MODELS_CLIP},       {"model_name", MODELS_UPSCALE},
};

/* The folder whose models are this combo's choices; MODELS_FOLDERS: the files of the input folder; -1: it
 * lists no files. */
static int listed_folder(const struct node_class *c, const struct object_input *in)
{
    if (!in->values.p)
        return -1;
    if (c->check == CHECK_FILE && str_is(in->name, c->check_input))
        return MODELS_FOLDERS;
    for (size_t i = 0; i < ARRAY_LEN(model_inputs); i++)
        if (str_is(in->name, model_inputs[i].input))
            return (int)model_inputs[i].folder;
    return -1;
}

static void add_class(const struct node_class *from, const struct object_class *info)
{
    struct node_class *c = &classes[n_classes++];
    struct json_iter hidden = json_iter(json_get(json_get(info->text, "input"), "hidden"));
    struct json v;

    *c = *from;
    c->info = info;
    while (json_next(&hidden, NULL, &v))
        c->wants_id = c->wants_id || json_str_eq(v, "UNIQUE_ID");
    for (size_t i = 0; i < info->n_inputs; i++)
        c->lists_files = c->lists_files || listed_folder(c, &info->inputs[i]) >= 0;
}

static void load(void)
{
    const struct node_class *tables[] = {nodes_image_table, nodes_model_table, nodes_test_table};
    struct err e;

    catalog = object_info_new(object_info_json, object_info_json_len, NULL, 0, &e);
    if (!catalog)
        abort(); /* the embedded file is ours; a test reads it */
    classes = xcalloc(object_info_count(catalog), sizeof(*classes));
    for (size_t i = 0; i < object_info_count(catalog); i++)
        for (size_t t = 0; t < ARRAY_LEN(tables); t++)
            for (const struct node_class *c = tables[t]; c->name; c++)
                if (str_is(object_info_at(catalog, i)->name, c->name))
                    add_class(c, object_info_at(catalog, i));
}

const struct node_class *node_classes(size_t *n)
{
    pthread_once(&once, load);
    *n = n_classes;
    return classes;
}

const struct node_class *node_find(struct str name)
{
    pthread_once(&once, load);
    for (size_t i = 0; i < n_classes; i++)
        if (str_eq(classes[i].info->name, name))
            return &classes[i];
    return NULL;
}

static void put_input_files(struct jsonw *w, const struct files *f, bool images_only)
{
    struct files_list l;

    files_list(f, FILES_INPUT, &l);
    for (size_t i = 0; i < l.n; i++)
        if (!images_only || strncmp(files_mime(l.name[i]), "image/", 6) == 0)
            jsonw_str(w, l.name[i]);
    files_list_free(&l);
}

void node_put_info(struct buf *b, const struct node_class *c, const struct files *f, const struct models *m)
{
    struct edits now = EDITS_INIT;

    for (size_t i = 0; i < c->info->n_inputs; i++) {
        int folder = listed_folder(c, &c->info->inputs[i]);
        struct buf list = BUF_INIT;
        struct jsonw w;

        if (folder < 0)
            continue;
        jsonw_init(&w, &list);
        jsonw_arr(&w);
        if (folder == MODELS_FOLDERS)
            put_input_files(&w, f, strcmp(c->name, "LoadImage") == 0);
        for (size_t k = 0; folder < MODELS_FOLDERS && k < m->n[folder]; k++)
            jsonw_str(&w, m->name[folder][k]);
        if (folder == MODELS_VAE)
            jsonw_str(&w, "pixel_space");
        jsonw_arr_end(&w);
        edits_replace(&now, c->info->inputs[i].values, list.data, list.len);
        buf_free(&list);
    }
    json_put_str(b, c->name);
    buf_puts(b, ": ");
    edits_put(&now, b, c->info->text);
    edits_fini(&now);
}

/* --- one execution --- */

void noderun_fini(struct noderun *r)
{
    for (size_t i = 0; i < r->args; i++) {
        free((char *)r->arg[i].name);
        data_unref(r->arg[i].data);
    }
    free(r->arg);
    for (size_t i = 0; i < r->n_frames; i++)
        buf_free(&r->frames[i]);
    free(r->frames);
    for (size_t i = 0; i < r->outs; i++)
        data_unref(r->out[i]);
    val_free(r->ui);
    val_free(r->expand);
    free(r->error_type);
    free(r->error_msg);
    free(r->id);
    free(r->display_id);
    *r = (struct noderun){0};
}

const struct data *node_arg(const struct noderun *r, const char *name)
{
    for (size_t i = 0; i < r->args; i++)
        if (strcmp(r->arg[i].name, name) == 0)
            return r->arg[i].data;
    return NULL;
}

static const struct val *arg_value(const struct noderun *r, const char *name)
{
    const struct data *d = node_arg(r, name);

    return d && d->kind == DATA_VALUE ? d->value : NULL;
}

int64_t node_int(const struct noderun *r, const char *name, int64_t fallback)
{
    int64_t v;

    return val_int64(arg_value(r, name), &v) ? v : fallback;
}

double node_num(const struct noderun *r, const char *name, double fallback)
{
    double v;

    return val_number(arg_value(r, name), &v) ? v : fallback;
}

const char *node_str(const struct noderun *r, const char *name, const char *fallback)
{
    const struct val *v = arg_value(r, name);

    return v && (v->type == VAL_STR || v->type == VAL_INT) ? v->text : fallback;
}

bool node_bool(const struct noderun *r, const char *name, bool fallback)
{
    const struct val *v = arg_value(r, name);

    return v ? val_truthy(v) : fallback;
}

void node_fail(struct noderun *r, const char *type, const char *fmt, ...)
{
    va_list ap;
    char *msg;

    if (r->error_type)
        return;
    va_start(ap, fmt);
    if (vasprintf(&msg, fmt, ap) < 0)
        msg = xstrdup("");
    va_end(ap);
    r->error_type = xstrdup(type);
    r->error_msg = msg;
}

const struct image *node_image(struct noderun *r, const char *name)
{
    const struct data *d = node_arg(r, name);

    if (!d || d->kind != DATA_IMAGE) {
        node_fail(r, "AttributeError", "'NoneType' object has no attribute 'shape'");
        return NULL;
    }
    return d->image;
}

void node_out(struct noderun *r, struct data *d)
{
    if (r->outs < NODE_MAX_OUT)
        r->out[r->outs++] = d;
    else
        data_unref(d);
}

void node_out_image(struct noderun *r, struct image *im, struct err *e)
{
    if (im)
        node_out(r, data_image(im));
    else
        node_fail(r, "RuntimeError", "%s", e->msg);
}
