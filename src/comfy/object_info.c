#include "comfy/object_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/pyvalue.h"

struct object_info {
    atomic_uint refs;
    struct object_class **classes;
    size_t n, cap;
    struct str_index names;
};

/* ---- one class ---------------------------------------------------------------------------------------- */

static void class_unref(struct object_class *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < c->n_inputs; i++)
        str_index_fini(&c->inputs[i].strings);
    str_index_fini(&c->input_names);
    str_pool_fini(&c->pool);
    free(c->inputs);
    free(c->outputs);
    bytes_unref(c->bytes);
    free(c);
}

static void read_options(struct object_input *in)
{
    static const char *const uploads[] = {"image_upload", "audio_upload",          "video_upload",
                                          "file_upload",  "animated_image_upload", "upload"};
    struct json_iter it = json_iter(in->options);
    struct json k, v;

    if (json_type(in->options) != JSON_OBJECT) {
        in->options = (struct json){NULL, 0};
        return;
    }
    while (json_next(&it, &k, &v)) {
        if (json_str_eq(k, "min"))
            in->min = json_type(v) == JSON_NUMBER ? v : (struct json){NULL, 0};
        else if (json_str_eq(k, "max"))
            in->max = json_type(v) == JSON_NUMBER ? v : (struct json){NULL, 0};
        else if (json_str_eq(k, "multiselect"))
            in->multiselect = json_truthy(v);
        else if (json_str_eq(k, "remote") || json_str_eq(k, "remote_combo"))
            in->remote = json_truthy(v);
        else if (json_str_eq(k, "options") && in->combo_v3 && json_type(v) == JSON_ARRAY)
            in->values = v;
        for (size_t i = 0; i < ARRAY_LEN(uploads); i++)
            if (json_str_eq(k, uploads[i]) && json_truthy(v))
                in->upload = true;
    }
}

static void read_values(struct object_class *c, struct object_input *in)
{
    struct json_iter it = json_iter(in->values);
    struct json v;

    in->only_strings = true;
    while (json_next(&it, NULL, &v)) {
        in->n_values++;
        if (json_type(v) == JSON_STRING)
            str_index_add(&in->strings, str_pool_get(&c->pool, v), NULL);
        else
            in->only_strings = false;
    }
}

static void read_input(struct object_class *c, struct str name, struct json config, bool required)
{
    struct object_input *in;
    size_t i = str_index_add(&c->input_names, name, NULL);

    if (i == c->n_inputs) {
        if ((c->n_inputs & (c->n_inputs - 1)) == 0)
            c->inputs = xrealloc(c->inputs, (c->n_inputs ? 2 * c->n_inputs : 1) * sizeof(*c->inputs));
        c->n_inputs++;
    } else {
        str_index_fini(&c->inputs[i].strings);
    }
    in = &c->inputs[i];
    *in = (struct object_input){.name = name, .required = required, .config = config};
    in->type = json_at(config, 0);
    in->options = json_at(config, 1);
    in->type_name = str_pool_get(&c->pool, in->type);
    in->combo_v3 = str_is(in->type_name, "COMBO");
    in->combo = in->combo_v3 || json_type(in->type) == JSON_ARRAY;
    if (json_type(in->type) == JSON_ARRAY) {
        in->type_name = (struct str){"COMBO", 5};
        in->values = in->type;
    }
    read_options(in);
    if (in->values.p)
        read_values(c, in);
}

static void read_inputs(struct object_class *c, struct json section, bool required)
{
    struct json_iter it = json_iter(section);
    struct json k, v;

    if (json_type(section) == JSON_OBJECT)
        while (json_next(&it, &k, &v))
            read_input(c, str_pool_get(&c->pool, k), v, required);
}

static void read_outputs(struct object_class *c, struct json outputs)
{
    struct json_iter it = json_iter(outputs);
    struct json v;

    if (json_type(outputs) != JSON_ARRAY)
        return;
    c->outputs = xcalloc(json_count(outputs), sizeof(*c->outputs));
    while (json_next(&it, NULL, &v))
        c->outputs[c->n_outputs++] = v;
}

static struct object_class *class_new(struct json key, struct json text)
{
    struct object_class *c = xcalloc(1, sizeof(*c));
    struct json_iter it;
    struct json k, v, input = {NULL, 0};
    int v3_keys = 0;

    atomic_init(&c->refs, 1);
    /* The name and the text in one piece: "name" {...} */
    c->bytes = bytes_alloc(key.n + text.n);
    memcpy(c->bytes->data, key.p, key.n);
    memcpy(c->bytes->data + key.n, text.p, text.n);
    c->name = str_pool_get(&c->pool, (struct json){c->bytes->data, key.n});
    c->text = (struct json){c->bytes->data + key.n, text.n};
    for (it = json_iter(c->text); json_next(&it, &k, &v);) {
        v3_keys +=
            json_str_eq(k, "deprecated") || json_str_eq(k, "experimental") || json_str_eq(k, "api_node");
        if (json_str_eq(k, "input"))
            input = v;
        else if (json_str_eq(k, "output"))
            read_outputs(c, c->outputs ? (struct json){NULL, 0} : v);
        else if (json_str_eq(k, "output_node"))
            c->output_node = json_truthy(v);
        else if (json_str_eq(k, "api_node"))
            c->api_node = json_truthy(v);
        else if (json_str_eq(k, "python_module"))
            c->module = str_pool_get(&c->pool, v);
        else if (json_str_eq(k, "display_name"))
            c->display_name = str_pool_get(&c->pool, v);
    }
    read_inputs(c, json_get(input, "required"), true);
    read_inputs(c, json_get(input, "optional"), false);
    c->v3 = v3_keys == 3; /* the older form says only what it has to say */
    c->own = str_is(c->module, "nodes") || str_starts(c->module, "comfy_extras.");
    return c;
}

const struct object_input *object_class_input(const struct object_class *c, struct str name)
{
    size_t i = str_index_find(&c->input_names, name);

    return i == STR_NOWHERE ? NULL : &c->inputs[i];
}

bool object_input_has(const struct object_input *in, struct json value)
{
    struct json_iter it = json_iter(in->values);
    struct str_pool tmp = {0};
    struct json v;
    bool has = false;

    if (!in->values.p)
        return false;
    if (json_type(value) == JSON_STRING) {
        has = str_index_find(&in->strings, str_pool_get(&tmp, value)) != STR_NOWHERE;
        str_pool_fini(&tmp);
        return has;
    }
    if (!in->only_strings)
        while (!has && json_next(&it, NULL, &v))
            has = py_eq(v, value);
    return has;
}

/* ---- one server --------------------------------------------------------------------------------------- */

static struct object_class *shared(struct object_info *const *others, size_t n, struct str name,
                                   struct json text)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = others[i] ? str_index_find(&others[i]->names, name) : STR_NOWHERE;
        struct object_class *c = at == STR_NOWHERE ? NULL : others[i]->classes[at];

        if (c && c->text.n == text.n && memcmp(c->text.p, text.p, text.n) == 0) {
            atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
            return c;
        }
    }
    return NULL;
}

static void add_class(struct object_info *o, struct object_class *c)
{
    size_t i = str_index_add(&o->names, c->name, NULL);

    if (i < o->n) { /* twice in one body: the last counts; the index keeps the first one's characters */
        o->names.keys[i] = c->name;
        class_unref(o->classes[i]);
    } else if (o->n++ == o->cap) {
        o->cap = o->cap ? 2 * o->cap : 256;
        o->classes = xrealloc(o->classes, o->cap * sizeof(struct object_class *));
    }
    o->classes[i] = c;
}

struct object_info *object_info_new(const char *text, size_t len, struct object_info *const *others,
                                    size_t n_others, struct err *e)
{
    struct object_info *o;
    struct json body, k, v;
    struct json_iter it;
    struct str_pool tmp = {0};

    if (json_check(text, len, NULL, &body, e) < 0) {
        err_wrap(e, "object_info");
        return NULL;
    }
    if (json_type(body) != JSON_OBJECT) {
        err_set(e, EINVAL, "object_info is not an object");
        return NULL;
    }
    o = xcalloc(1, sizeof(*o));
    atomic_init(&o->refs, 1);
    for (it = json_iter(body); json_next(&it, &k, &v);) {
        struct object_class *c;

        if (json_type(v) != JSON_OBJECT) {
            err_set(e, EINVAL, "object_info: class %.*s is not an object", k.n > 64 ? 64 : (int)k.n, k.p);
            str_pool_fini(&tmp);
            object_info_unref(o);
            return NULL;
        }
        c = shared(others, n_others, str_pool_get(&tmp, k), v);
        add_class(o, c ? c : class_new(k, v));
    }
    str_pool_fini(&tmp);
    return o;
}

struct object_info *object_info_ref(struct object_info *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void object_info_unref(struct object_info *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < o->n; i++)
        class_unref(o->classes[i]);
    free(o->classes);
    str_index_fini(&o->names);
    free(o);
}

size_t object_info_count(const struct object_info *o)
{
    return o->n;
}

const struct object_class *object_info_at(const struct object_info *o, size_t i)
{
    return o->classes[i];
}

const struct object_class *object_info_find(const struct object_info *o, struct str name)
{
    size_t i = str_index_find(&o->names, name);

    return i == STR_NOWHERE ? NULL : o->classes[i];
}
