/* Nodes that need a model: these are played. They take the time such a node takes, tick as it ticks, and
 * paint a picture that shows server, seed and prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nodes.h"
#include "sim/picture.h"

#define STEP_MS 120 /* one sampling step of 512x512 */
#define TEXT_MS 40
#define VAE_MS 150
#define PREVIEW_SIDE 128

/* Loads a model that is not held: the first call waits, the second goes on. */
static bool must_load(struct noderun *r, const char *name)
{
    if (r->state == 0 && name) {
        r->state = 1;
        r->wait_ms = models_use(r->models, name);
        return r->wait_ms > 0;
    }
    return false;
}

static const char *model_of(const struct noderun *r, const char *arg)
{
    const struct data *d = node_arg(r, arg);

    return d ? d->text : NULL;
}

static enum node_next step_checkpoint(struct noderun *r)
{
    const char *name = node_str(r, "ckpt_name", "");

    if (must_load(r, name))
        return NODE_WAIT;
    for (int i = 0; i < 3; i++)
        node_out(r, data_text(DATA_MODEL, name));
    return NODE_DONE;
}

static enum node_next load_one(struct noderun *r, const char *arg)
{
    const char *name = node_str(r, arg, "");

    if (must_load(r, name))
        return NODE_WAIT;
    node_out(r, data_text(DATA_MODEL, name));
    return NODE_DONE;
}

static enum node_next step_unet(struct noderun *r)
{
    return load_one(r, "unet_name");
}

/* Small files: loaded at once, nothing is pushed out for them. */
static void load_small(struct noderun *r, const char *arg)
{
    node_out(r, data_text(DATA_MODEL, node_str(r, arg, "")));
}

static void run_clip_loader(struct noderun *r)
{
    load_small(r, "clip_name");
}

static void run_dual_clip(struct noderun *r)
{
    load_small(r, "clip_name1");
}

static void run_vae_loader(struct noderun *r)
{
    load_small(r, "vae_name");
}

static void run_upscale_loader(struct noderun *r)
{
    load_small(r, "model_name");
}

static void pass(struct noderun *r, const char *arg)
{
    const struct data *d = node_arg(r, arg);

    if (d)
        node_out(r, data_ref((struct data *)d));
    else
        node_fail(r, "TypeError", "missing 1 required positional argument: '%s'", arg);
}

static void run_lora(struct noderun *r)
{
    pass(r, "model");
    pass(r, "clip");
}

static void run_lora_model(struct noderun *r)
{
    pass(r, "model");
}

static void run_clip_skip(struct noderun *r)
{
    pass(r, "clip");
}

static enum node_next step_text(struct noderun *r)
{
    if (r->state == 0) {
        r->state = 1;
        r->wait_ms = TEXT_MS;
        return NODE_WAIT;
    }
    node_out(r, data_text(DATA_COND, node_str(r, "text", "")));
    return NODE_DONE;
}

static void run_combine(struct noderun *r)
{
    const struct data *a = node_arg(r, "conditioning_1"), *b = node_arg(r, "conditioning_2");
    struct data *d = data_new(DATA_COND);

    d->text = xasprintf("%s %s", a && a->text ? a->text : "", b && b->text ? b->text : "");
    node_out(r, d);
}

static void run_pass_conditioning(struct noderun *r)
{
    pass(r, "conditioning");
}

static void run_empty_latent(struct noderun *r)
{
    struct data *d = data_new(DATA_LATENT);

    d->w = (unsigned)node_int(r, "width", 512);
    d->h = (unsigned)node_int(r, "height", 512);
    d->n = (unsigned)node_int(r, "batch_size", 1);
    node_out(r, d);
}

static struct data *latent_copy(const struct data *from)
{
    struct data *d = data_new(DATA_LATENT);

    d->w = from->w;
    d->h = from->h;
    d->n = from->n;
    d->text = xstrdup_null(from->text);
    d->seed = xstrdup_null(from->seed);
    d->image = image_ref(from->image);
    return d;
}

static const struct data *latent_arg(struct noderun *r, const char *name)
{
    const struct data *d = node_arg(r, name);

    if (d && d->kind == DATA_LATENT)
        return d;
    node_fail(r, "TypeError", "'NoneType' object is not subscriptable");
    return NULL;
}

/* What a sampler works on, gathered from its arguments whichever node class it is. */
struct sampling {
    const struct data *latent;
    const char *seed, *text, *model;
    int64_t steps;
};

static bool sampling_args(struct noderun *r, struct sampling *s)
{
    const struct data *noise = node_arg(r, "noise"), *guider = node_arg(r, "guider"),
                      *sigmas = node_arg(r, "sigmas"), *positive = node_arg(r, "positive");
    double denoise = node_num(r, "denoise", 1);

    s->latent = latent_arg(r, "latent_image");
    if (!s->latent)
        return false;
    s->seed = noise && noise->text ? noise->text : node_str(r, "seed", node_str(r, "noise_seed", "0"));
    s->text = guider && guider->text ? guider->text : positive && positive->text ? positive->text : "";
    s->model = guider && guider->value ? guider->value->text : model_of(r, "model");
    s->steps = node_int(r, "steps", 20);
    if (sigmas && sigmas->value)
        val_int64(sigmas->value, &s->steps);
    if (denoise < 1)
        s->steps = (int64_t)((double)s->steps * denoise);
    if (node_arg(r, "end_at_step")) {
        int64_t end = node_int(r, "end_at_step", s->steps), start = node_int(r, "start_at_step", 0);

        if (end < s->steps)
            s->steps = end;
        s->steps -= start < s->steps ? start : s->steps;
    }
    if (s->steps < 1)
        s->steps = 1;
    return true;
}

static void paint_preview(struct noderun *r)
{
    struct sampling s;
    struct image *im;
    struct err e = {0};
    unsigned w, h;

    if (!sampling_args(r, &s))
        return;
    w = s.latent->w >= s.latent->h ? PREVIEW_SIDE : PREVIEW_SIDE * s.latent->w / s.latent->h;
    h = s.latent->h >= s.latent->w ? PREVIEW_SIDE : PREVIEW_SIDE * s.latent->h / s.latent->w;
    im = picture_paint(&(struct picture){r->server, s.seed, s.text, (unsigned)r->count, (unsigned)s.steps}, 1,
                       w ? w : 1, h ? h : 1, &e);
    if (!r->frames) {
        r->frames = xcalloc(1, sizeof(*r->frames));
        r->n_frames = 1;
    }
    buf_clear(&r->frames[0]);
    if (!im || image_jpeg(im, 0, 80, &r->frames[0], &e) < 0)
        node_fail(r, "RuntimeError", "%s", e.msg);
    image_unref(im);
}

static int64_t step_ms(const struct data *latent)
{
    double pixels = (double)latent->w * latent->h * (latent->n ? latent->n : 1);
    double ms = STEP_MS * pixels / (512.0 * 512.0);

    return ms < 15 ? 15 : ms > 5000 ? 5000 : (int64_t)ms;
}

static enum node_next step_sampler(struct noderun *r)
{
    struct sampling s;
    struct data *out;

    if (!sampling_args(r, &s) || r->error_type)
        return NODE_FAILED;
    for (;;) {
        switch (r->state) {
        case 0: /* the model may have been pushed out since its loader ran */
            if (must_load(r, s.model))
                return NODE_WAIT;
            r->state = 1;
            break;
        case 1:
            if (r->count == s.steps) {
                out = latent_copy(s.latent);
                free(out->text);
                free(out->seed);
                out->text = xstrdup(s.text);
                out->seed = xstrdup(s.seed);
                image_unref(out->image);
                out->image = NULL;
                node_out(r, out);
                if (r->cls->info->n_outputs > 1)
                    node_out(r, data_ref(out));
                return NODE_DONE;
            }
            r->state = 2;
            r->wait_ms = step_ms(s.latent);
            return NODE_WAIT;
        case 2:
            r->count++;
            r->state = 3;
            r->work = paint_preview;
            return NODE_WORK;
        default:
            if (!r->host->tick(r->host->arg, r, r->count, s.steps, "image/jpeg", &r->frames[0]))
                return NODE_FAILED;
            r->state = 1;
            break;
        }
    }
}

static void paint_decoded(struct noderun *r)
{
    const struct data *l = latent_arg(r, "samples");
    struct err e = {0};

    if (!l)
        return;
    if (l->image) { /* encoded and never sampled: it comes back as it was */
        node_out(r, data_image(image_ref(l->image)));
        return;
    }
    node_out_image(
        r,
        picture_paint(&(struct picture){r->server, l->seed ? l->seed : "-", l->text ? l->text : "", 1, 1},
                      l->n ? l->n : 1, l->w ? l->w : 8, l->h ? l->h : 8, &e),
        &e);
}

static enum node_next step_decode(struct noderun *r)
{
    switch (r->state++) {
    case 0: r->wait_ms = VAE_MS; return NODE_WAIT;
    case 1: r->work = paint_decoded; return NODE_WORK;
    default: return r->error_type ? NODE_FAILED : NODE_DONE;
    }
}

static enum node_next step_encode(struct noderun *r)
{
    const struct image *im = node_image(r, "pixels");
    struct data *d;

    if (!im)
        return NODE_FAILED;
    if (r->state++ == 0) {
        r->wait_ms = VAE_MS;
        return NODE_WAIT;
    }
    d = data_new(DATA_LATENT);
    d->w = im->w / 8 * 8;
    d->h = im->h / 8 * 8;
    d->n = im->n;
    d->image = image_ref((struct image *)im);
    node_out(r, d);
    return NODE_DONE;
}

static void resize_latent(struct noderun *r, double w, double h)
{
    const struct data *l = latent_arg(r, "samples");
    struct data *d;

    if (!l)
        return;
    d = latent_copy(l);
    image_unref(d->image);
    d->image = NULL;
    d->w = w < 8 ? 8 : w > IMAGE_MAX_SIDE ? IMAGE_MAX_SIDE : (unsigned)w / 8 * 8;
    d->h = h < 8 ? 8 : h > IMAGE_MAX_SIDE ? IMAGE_MAX_SIDE : (unsigned)h / 8 * 8;
    node_out(r, d);
}

static void run_latent_upscale(struct noderun *r)
{
    resize_latent(r, node_num(r, "width", 512), node_num(r, "height", 512));
}

static void run_latent_upscale_by(struct noderun *r)
{
    const struct data *l = latent_arg(r, "samples");
    double by = node_num(r, "scale_by", 1.5);

    if (l)
        resize_latent(r, l->w * by, l->h * by);
}

/* Little objects of the custom sampling nodes: a text, and a value that a later node asks for. */
static void out_thing(struct noderun *r, const char *text, struct val *value)
{
    struct data *d = data_text(DATA_THING, text);

    d->value = value;
    node_out(r, d);
}

static void run_sampler_select(struct noderun *r)
{
    const char *name = node_str(r, "sampler_name", "euler");
    const struct object_input *in = object_class_input(r->cls->info, str_of("sampler_name"));

    /* not checked at submit by 0.3.75: it fails here */
    if (str_index_find(&in->strings, str_of(name)) != STR_NOWHERE)
        out_thing(r, name, NULL);
    else
        node_fail(r, "AttributeError", "module 'comfy.k_diffusion.sampling' has no attribute 'sample_%s'",
                  name);
}

static void run_scheduler(struct noderun *r)
{
    double denoise = node_num(r, "denoise", 1);

    out_thing(r, "sigmas",
              val_int((int64_t)((double)node_int(r, "steps", 20) * (denoise > 0 ? denoise : 1))));
}

static void run_noise(struct noderun *r)
{
    out_thing(r, node_str(r, "noise_seed", "0"), NULL);
}

static void run_guider(struct noderun *r)
{
    const struct data *c = node_arg(r, "conditioning"), *p = node_arg(r, "positive");
    const char *model = model_of(r, "model");

    out_thing(r, c && c->text ? c->text : p && p->text ? p->text : "", model ? val_str(model) : NULL);
}

static void upscale_four(struct noderun *r)
{
    const struct image *im = node_image(r, "image");
    struct err e = {0};

    if (im)
        node_out_image(r, image_scale(im, im->w * 4, im->h * 4, SCALE_BICUBIC, false, &e), &e);
}

static enum node_next step_upscale(struct noderun *r)
{
    switch (r->state++) {
    case 0: r->wait_ms = 4 * VAE_MS; return NODE_WAIT;
    case 1: r->work = upscale_four; return NODE_WORK;
    default: return r->error_type ? NODE_FAILED : NODE_DONE;
    }
}

const struct node_class nodes_model_table[] = {
    {.name = "CheckpointLoaderSimple", .step = step_checkpoint, .heavy = true},
    {.name = "UNETLoader", .step = step_unet, .heavy = true},
    {.name = "CLIPLoader", .run = run_clip_loader},
    {.name = "DualCLIPLoader", .run = run_dual_clip},
    {.name = "VAELoader", .run = run_vae_loader},
    {.name = "UpscaleModelLoader", .run = run_upscale_loader},
    {.name = "LoraLoader", .run = run_lora},
    {.name = "LoraLoaderModelOnly", .run = run_lora_model},
    {.name = "ModelSamplingSD3", .run = run_lora_model},
    {.name = "CLIPSetLastLayer", .run = run_clip_skip},
    {.name = "CLIPTextEncode", .step = step_text},
    {.name = "ConditioningCombine", .run = run_combine},
    {.name = "ConditioningZeroOut", .run = run_pass_conditioning},
    {.name = "FluxGuidance", .run = run_pass_conditioning},
    {.name = "EmptyLatentImage", .run = run_empty_latent},
    {.name = "EmptySD3LatentImage", .run = run_empty_latent},
    {.name = "KSampler", .step = step_sampler, .heavy = true},
    {.name = "KSamplerAdvanced", .step = step_sampler, .heavy = true},
    {.name = "SamplerCustomAdvanced", .step = step_sampler, .heavy = true},
    {.name = "KSamplerSelect", .run = run_sampler_select},
    {.name = "BasicScheduler", .run = run_scheduler},
    {.name = "RandomNoise", .run = run_noise},
    {.name = "BasicGuider", .run = run_guider},
    {.name = "CFGGuider", .run = run_guider},
    {.name = "VAEDecode", .step = step_decode, .heavy = true},
    {.name = "VAEEncode", .step = step_encode},
    {.name = "LatentUpscale", .run = run_latent_upscale},
    {.name = "LatentUpscaleBy", .run = run_latent_upscale_by},
    {.name = "ImageUpscaleWithModel", .step = step_upscale, .heavy = true},
    {.name = NULL},
};
