/* One literal value against one input: conversion, limits, choices. */
#include <math.h>
#include <string.h>

#include "comfy/own_checks.h"
#include "comfy/pyvalue.h"
#include "comfy/validate_priv.h"

/* Does the class look at this input itself? Then ComfyUI looks at neither its list nor its limits. */
static bool checks_itself(const struct object_class *c, const struct object_input *in, bool strict)
{
    for (size_t i = 0; i < ARRAY_LEN(own_checks); i++)
        if (str_is(c->name, own_checks[i].cls) &&
            (str_is(in->name, own_checks[i].input) || strcmp(own_checks[i].input, "**") == 0))
            return true;
    /* Loaders that other versions may have; what chooses a file is checked by looking for the file. */
    return !strict && (in->upload || str_starts(c->name, "Load"));
}

static void put_error(struct vctx *c, struct verrors *ve, const struct object_input *in, const char *type,
                      const char *message, const struct buf *details, struct json received,
                      const struct buf *why, bool with_config)
{
    struct jsonw w;

    verror_begin(c, ve, &w, type, message, buf_str(details), details->len);
    jsonw_key(&w, "input_name");
    jsonw_strn(&w, in->name.p, in->name.n);
    if (with_config)
        vput_config(&w, in);
    else
        jsonw_kspan(&w, "input_config", (struct json){NULL, 0});
    jsonw_kspan(&w, "received_value", received);
    if (why) {
        jsonw_key(&w, "exception_message");
        jsonw_strn(&w, buf_str(why), why->len);
    }
    verror_end(c, ve, &w);
}

/* The value as int(), float(), str() or bool() make it, as JSON in `to`; *changed if the type asks for one.
 */
static bool convert(const struct object_input *in, struct json value, struct buf *to, struct buf *why,
                    bool *changed)
{
    struct buf chars = BUF_INIT;
    double d;
    bool ok = true;

    *changed = true;
    if (str_is(in->type_name, "INT")) {
        ok = py_int(value, to, why);
    } else if (str_is(in->type_name, "FLOAT")) {
        ok = py_float(value, &d, why);
        if (ok)
            json_put_double(to, d);
    } else if (str_is(in->type_name, "STRING")) {
        py_put_str(&chars, value);
        json_put_strn(to, buf_str(&chars), chars.len);
        buf_free(&chars);
    } else if (str_is(in->type_name, "BOOLEAN")) {
        buf_puts(to, json_truthy(value) ? "true" : "false");
    } else {
        *changed = false;
    }
    return ok;
}

static void conversion_failed(struct vctx *c, struct verrors *ve, const struct object_input *in,
                              struct json value, const struct buf *why)
{
    struct buf details = BUF_INIT, message = BUF_INIT;

    buf_printf(&message, "Failed to convert an input value to a %.*s value", (int)in->type_name.n,
               in->type_name.p);
    buf_put(&details, in->name.p, in->name.n);
    buf_puts(&details, ", ");
    py_put_str(&details, value);
    buf_puts(&details, ", ");
    buf_put(&details, buf_str(why), why->len);
    put_error(c, ve, in, "invalid_input_type", message.data, &details, value, why, true);
    buf_free(&details);
    buf_free(&message);
}

static bool out_of_range(struct vctx *c, struct verrors *ve, const struct object_input *in, struct json value)
{
    struct buf message = BUF_INIT, details = BUF_INIT;
    bool low = false, high = false;
    int cmp;

    if (in->min.p && py_compare(value, in->min, &cmp))
        low = cmp < 0;
    if (!low && in->max.p && py_compare(value, in->max, &cmp))
        high = cmp > 0;
    if (!low && !high)
        return false;
    buf_puts(&message, "Value ");
    py_put_str(&message, value);
    buf_puts(&message, low ? " smaller than min of " : " bigger than max of ");
    py_put_str(&message, low ? in->min : in->max);
    buf_put(&details, in->name.p, in->name.n);
    put_error(c, ve, in, low ? "value_smaller_than_min" : "value_bigger_than_max", message.data, &details,
              value, NULL, true);
    buf_free(&message);
    buf_free(&details);
    return true;
}

/* The values of a multiselect that are not among the choices, or the value itself. Empty: all is well. */
static size_t put_invalid(const struct vctx *c, const struct object_input *in, struct json value,
                          struct buf *out)
{
    struct json_iter it = json_iter(value);
    struct json v;
    size_t n = 0;

    if (!(in->multiselect && json_type(value) == JSON_ARRAY)) {
        if (object_input_has(in, value))
            return 0;
        if (c->o->dialect == VALIDATE_OLD && json_type(value) != JSON_STRING) {
            buf_putc(out, '\''); /* f"'{val}'" there, repr(val) since */
            py_put_str(out, value);
            buf_putc(out, '\'');
        } else if (c->o->dialect == VALIDATE_OLD) {
            buf_putc(out, '\'');
            json_str(value, out);
            buf_putc(out, '\'');
        } else {
            py_put_repr(out, value);
        }
        return 1;
    }
    while (json_next(&it, NULL, &v))
        if (!object_input_has(in, v)) {
            if (n++)
                buf_puts(out, ", ");
            py_put_repr(out, v);
        }
    return n;
}

static void check_choice(struct vctx *c, struct verrors *ve, const struct object_input *in, struct json value)
{
    struct buf details = BUF_INIT, invalid = BUF_INIT;
    size_t n = in->n_values;

    if (put_invalid(c, in, value, &invalid) > 0) {
        buf_put(&details, in->name.p, in->name.n);
        buf_puts(&details, ": ");
        buf_put(&details, buf_str(&invalid), invalid.len);
        buf_puts(&details, " not in ");
        if (n > 20)
            buf_printf(&details, "(list of length %zu)", n);
        else
            py_put_repr(&details, in->values);
        put_error(c, ve, in, "value_not_in_list", "Value not in list", &details, value, NULL, n <= 20);
    }
    buf_free(&details);
    buf_free(&invalid);
}

static bool has_checked_list(const struct vctx *c, const struct object_input *in)
{
    if (!in->combo || in->remote || !in->values.p)
        return false;
    return !in->combo_v3 || (c->o->strict && c->o->dialect == VALIDATE_NEW);
}

/* Is this what int(), float(), str() or bool() would make, though perhaps not in the same digits or escapes? */
static bool is_of_type(const struct object_input *in, struct json value)
{
    enum json_type t = json_type(value);

    if (t == JSON_NUMBER)
        return str_is(in->type_name, json_is_int_literal(value) ? "INT" : "FLOAT");
    return (t == JSON_STRING && str_is(in->type_name, "STRING")) ||
           (t == JSON_BOOL && str_is(in->type_name, "BOOLEAN"));
}

static bool is_kept(enum validate_coerce which, const struct object_input *in, struct json given,
                    struct json value)
{
    double d;

    if (which != COERCE_SENDABLE)
        return which == COERCE_ALL;
    return !is_of_type(in, given) && json_type(value) != JSON_ARRAY &&
           !(json_double(value, &d) && !isfinite(d));
}

void validate_literal(struct vctx *c, const struct object_class *cls, const struct object_input *in,
                      struct json value, struct verrors *ve)
{
    struct json given = value, inner = json_get(value, "__value__");
    struct buf to = BUF_INIT, why = BUF_INIT;
    bool changed;

    if (inner.p) /* how the frontend wraps a list, which otherwise would be a link */
        value = inner;
    if (!convert(in, value, &to, &why, &changed)) {
        conversion_failed(c, ve, in, value, &why);
    } else if (!changed || json_check(to.data, to.len, NULL, &value, NULL) == 0) {
        bool limits = (c->o->strict || cls->own) && !checks_itself(cls, in, c->o->strict);

        if (limits && !out_of_range(c, ve, in, value) && has_checked_list(c, in))
            check_choice(c, ve, in, value);
    }
    /* What is wrong with it shows in what the server keeps of the prompt, too. */
    if (is_kept(c->o->coerce, in, given, value) &&
        (value.n != given.n || memcmp(value.p, given.p, given.n) != 0))
        edits_replace(&c->r->coerced, given, value.p, value.n);
    buf_free(&to);
    buf_free(&why);
}
