/* The small test nodes of the recordings (test/recordings): each shows one thing a ComfyUI server can do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nodes.h"

static void pass_image(struct noderun *r)
{
    const struct data *d = node_arg(r, "image");

    if (d)
        node_out(r, data_ref((struct data *)d));
}

/* 16x16 in the colour of the step, as JPEG or PNG. */
static bool slow_preview(struct noderun *r, int64_t i, const char *kind)
{
    float rgb[3] = {(float)(i * 60 % 256) / 255.0f, 80 / 255.0f, 160 / 255.0f};
    struct err e = {0};
    struct image *im = image_fill(1, 16, 16, 3, rgb, &e);
    int rc = -1;

    if (!r->frames) {
        r->frames = xcalloc(1, sizeof(*r->frames));
        r->n_frames = 1;
    }
    buf_clear(&r->frames[0]);
    if (im)
        rc = strcmp(kind, "jpeg") == 0 ? image_jpeg(im, 0, 95, &r->frames[0], &e)
                                       : image_png(im, 0, 6, NULL, 0, &r->frames[0], &e);
    image_unref(im);
    if (rc < 0)
        node_fail(r, "RuntimeError", "%s", e.msg);
    return rc == 0;
}

static enum node_next step_slow(struct noderun *r)
{
    int64_t steps = node_int(r, "steps", 4), i = r->count;
    const char *kind = node_str(r, "preview", "none");
    const char *mime = NULL;
    char text[64];

    if (r->state == 1) { /* slept */
        if (node_bool(r, "text", false)) {
            snprintf(text, sizeof(text), "step %lld of %lld", (long long)i + 1, (long long)steps);
            r->host->text(r->host->arg, r, text);
        }
        if (strcmp(kind, "none") != 0) {
            if (!slow_preview(r, i, kind))
                return NODE_FAILED;
            mime = strcmp(kind, "jpeg") == 0 ? "image/jpeg" : "image/png";
        }
        if (!r->host->tick(r->host->arg, r, i + 1, steps, mime, mime ? &r->frames[0] : NULL))
            return NODE_FAILED;
        r->count++;
    }
    if (r->count >= steps) {
        pass_image(r);
        return NODE_DONE;
    }
    r->state = 1;
    r->wait_ms = (int64_t)(node_num(r, "seconds_per_step", 0.1) * 1000);
    return NODE_WAIT;
}

static void run_fail(struct noderun *r)
{
    node_fail(r, "ValueError", "%s", node_str(r, "message", "boom"));
}

static void run_block(struct noderun *r)
{
    const char *message = node_str(r, "message", "");

    node_out(r, data_text(DATA_BLOCKER, *message ? message : NULL));
}

static void run_report(struct noderun *r)
{
    const struct data *d = node_arg(r, "value");
    int64_t count = node_int(r, "count", 1);
    struct val *text = val_arr(), *number = val_arr(), *nothing = val_arr();

    for (int64_t i = 0; i < count; i++)
        val_push(text, d ? data_format(d) : val_null());
    val_push(number, val_int(count));
    val_push(nothing, val_null());
    r->ui = val_obj();
    val_set(r->ui, "text", text);
    val_set(r->ui, "number", number);
    val_set(r->ui, "nothing", nothing);
}

static struct val *link_to(const char *id, int slot)
{
    struct val *l = val_arr();

    val_push(l, val_str(id));
    val_push(l, val_int(slot));
    return l;
}

static struct val *slow_node(struct val *image, struct val *steps)
{
    struct val *n = val_obj(), *in = val_obj();

    val_set(in, "image", image);
    val_set(in, "steps", steps);
    val_set(in, "seconds_per_step", val_float(0.01));
    val_set(in, "preview", val_str("none"));
    val_set(n, "class_type", val_str("SlowProgress"));
    val_set(n, "inputs", in);
    return n;
}

/* Two SlowProgress in a row. The inner input is a value, not a link: the executor hands the picture itself in
 * under the name of this node's own argument. */
static void run_expand(struct noderun *r)
{
    char *a = xasprintf("%s.0.0.1", r->id), *b = xasprintf("%s.0.0.2", r->id);
    struct val *steps = val_int(node_int(r, "steps", 2)), *own = val_arr();

    val_push(own, val_str(""));
    val_push(own, val_str("image"));
    r->expand = val_obj();
    val_set(r->expand, a, slow_node(own, val_copy(steps)));
    val_set(r->expand, b, slow_node(link_to(a, 0), steps));
    node_out(r, data_value(link_to(b, 0)));
    free(a);
    free(b);
}

static enum node_next step_broadcast(struct noderun *r)
{
    const struct data *d = node_arg(r, "value");
    struct val *v = val_obj();

    val_set(v, "value", d ? data_format(d) : val_null());
    r->host->event(r->host->arg, "golden.custom", v);
    val_free(v);
    return NODE_DONE;
}

static void run_raising(struct noderun *r)
{
    struct err e = {0};

    node_out_image(r, image_new(1, 8, 8, 3, &e), &e);
}

const struct node_class nodes_test_table[] = {
    {.name = "SlowProgress", .step = step_slow, .heavy = true},
    {.name = "FailAt", .run = run_fail},
    {.name = "BlockOutput", .run = run_block},
    {.name = "ReportText", .run = run_report},
    {.name = "ExpandToSlow", .run = run_expand},
    {.name = "BroadcastEvent", .step = step_broadcast},
    {.name = "RaisingValidate", .run = run_raising, .check = CHECK_RAISING, .check_input = "value"},
    {.name = NULL},
};
