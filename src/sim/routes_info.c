/* What a server has and is: node classes, models, statistics. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/server_impl.h"

/* --- node classes --- */

/* A class as packs of custom nodes bring them: long lists of files. Every tenth is another one on each server. */
static void put_custom_node(struct buf *b, unsigned n, const char *server)
{
    buf_printf(
        b, ", \"CustomNode%u\": {\"input\": {\"required\": {\"strength\": [\"FLOAT\", {\"default\": 1.0}], ",
        n);
    buf_puts(b, "\"file\": [[");
    for (unsigned i = 0; i < 180; i++)
        buf_printf(b, "%s\"style_%05u_%04u.safetensors\"", i ? ", " : "", n, i);
    if (n % 10 == 0) {
        buf_puts(b, ", ");
        json_put_str(b, server);
    }
    buf_printf(
        b,
        "]]}, \"optional\": {}}, \"input_order\": {\"required\": [\"strength\", \"file\"], \"optional\": "
        "[]}, "
        "\"output\": [\"STYLE\"], \"output_is_list\": [false], \"output_name\": [\"STYLE\"], "
        "\"name\": \"CustomNode%u\", \"display_name\": \"Custom node %u\", \"description\": \"\", "
        "\"python_module\": \"custom_nodes.pack_%u\", \"category\": \"custom\", \"output_node\": false}",
        n, n, n / 100);
}

static void reply_all_classes(struct http_req *r, void *arg)
{
    struct sim_server *s = arg;
    struct buf b = BUF_INIT;
    size_t n;
    const struct node_class *c = node_classes(&n);

    buf_putc(&b, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_puts(&b, ", ");
        node_put_info(&b, &c[i], &s->files, &s->models);
    }
    for (unsigned i = 0; i < s->custom_nodes; i++)
        put_custom_node(&b, i, s->name);
    buf_putc(&b, '}');
    reply_json(r, 200, &b);
}

void get_object_info(struct sim_server *s, struct http_req *r, const char *rest)
{
    int64_t ms;

    (void)rest;
    if (faults_strike(&s->faults, FAULT_OBJECT_INFO_SLOW, &ms))
        server_later(s, r, ms, reply_all_classes, NULL, s);
    else
        reply_all_classes(r, s);
}

void get_object_info_one(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT, name = BUF_INIT;
    const struct node_class *c = NULL;

    if (http_unescape(rest, strlen(rest), false, &name) == 0)
        c = node_find(str_of(buf_str(&name)));
    buf_putc(&b, '{');
    if (c)
        node_put_info(&b, c, &s->files, &s->models);
    buf_putc(&b, '}');
    buf_free(&name);
    reply_json(r, 200, &b);
}

/* --- models --- */

static const struct {
    const char *name, *path[3];
} folders[] = {
    {"checkpoints", {"models/checkpoints", "output/checkpoints"}},
    {"configs", {"models/configs"}},
    {"loras", {"models/loras", "output/loras"}},
    {"vae", {"models/vae", "output/vae"}},
    {"text_encoders", {"models/text_encoders", "models/clip", "output/clip"}},
    {"diffusion_models", {"models/unet", "models/diffusion_models", "output/diffusion_models"}},
    {"clip_vision", {"models/clip_vision"}},
    {"style_models", {"models/style_models"}},
    {"embeddings", {"models/embeddings"}},
    {"diffusers", {"models/diffusers"}},
    {"vae_approx", {"models/vae_approx"}},
    {"controlnet", {"models/controlnet", "models/t2i_adapter"}},
    {"gligen", {"models/gligen"}},
    {"upscale_models", {"models/upscale_models"}},
    {"latent_upscale_models", {"models/latent_upscale_models"}},
    {"custom_nodes", {"custom_nodes"}},
    {"hypernetworks", {"models/hypernetworks"}},
    {"photomaker", {"models/photomaker"}},
    {"classifiers", {"models/classifiers"}},
    {"model_patches", {"models/model_patches"}},
    {"audio_encoders", {"models/audio_encoders"}},
};

static bool folder_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (strcmp(folders[i].name, name) == 0)
            return true;
    return false;
}

void get_models(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)s;
    (void)rest;
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        jsonw_str(&w, folders[i].name);
    jsonw_arr_end(&w);
    reply_json(r, 200, &b);
}

static int held_folder(const char *name)
{
    for (int f = 0; f < MODELS_FOLDERS; f++)
        if (strcmp(models_folder_name((enum model_folder)f), name) == 0)
            return f;
    return -1;
}

void get_models_one(struct sim_server *s, struct http_req *r, const char *rest)
{
    int f = held_folder(rest);
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (!folder_known(rest)) {
        reply_empty(r, 404);
        return;
    }
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; f >= 0 && i < s->models.n[f]; i++)
        jsonw_str(&w, s->models.name[f][i]);
    jsonw_arr_end(&w);
    reply_json(r, 200, &b);
}

static void put_paths(struct jsonw *w, const struct sim_server *s, size_t folder)
{
    jsonw_arr(w);
    for (size_t i = 0; i < ARRAY_LEN(folders[folder].path) && folders[folder].path[i]; i++) {
        char *path = xasprintf("%s/%s", s->files.base, folders[folder].path[i]);

        jsonw_str(w, path);
        free(path);
    }
    jsonw_arr_end(w);
}

void get_experiment_models(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)rest;
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (strcmp(folders[i].name, "configs") == 0 || strcmp(folders[i].name, "custom_nodes") == 0)
            continue;
        jsonw_obj(&w);
        jsonw_kstr(&w, "name", folders[i].name);
        jsonw_key(&w, "folders");
        put_paths(&w, s, i);
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    reply_json(r, 200, &b);
}

void get_experiment_models_one(struct sim_server *s, struct http_req *r, const char *rest)
{
    int f = held_folder(rest);
    struct buf b = BUF_INIT;
    struct jsonw w;

    if (!folder_known(rest) || strcmp(rest, "configs") == 0 || strcmp(rest, "custom_nodes") == 0) {
        reply_empty(r, 404);
        return;
    }
    jsonw_init(&w, &b);
    jsonw_arr(&w);
    for (size_t i = 0; f >= 0 && i < s->models.n[f]; i++) {
        jsonw_obj(&w);
        jsonw_kstr(&w, "name", s->models.name[f][i]);
        jsonw_kint(&w, "pathIndex", 0);
        jsonw_kint(&w, "modified", 1700000000);
        jsonw_kint(&w, "created", 1700000000);
        jsonw_kint(&w, "size", 2ll << 30);
        jsonw_obj_end(&w);
    }
    jsonw_arr_end(&w);
    reply_json(r, 200, &b);
}

void get_folder_paths(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)rest;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        jsonw_key(&w, folders[i].name);
        put_paths(&w, s, i);
    }
    jsonw_obj_end(&w);
    reply_json(r, 200, &b);
}

/* --- facts about the server --- */

static void reply_text(struct http_req *r, const char *json)
{
    http_reply_str(r, 200, "application/json; charset=utf-8", json);
}

void get_embeddings(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)s;
    (void)rest;
    reply_text(r, "[]");
}

void get_extensions(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)s;
    (void)rest;
    reply_text(r, "[]");
}

void get_empty_object(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)s;
    (void)rest;
    reply_text(r, "{}");
}

void get_bare_404(struct sim_server *s, struct http_req *r, const char *rest)
{
    (void)s;
    (void)rest;
    reply_empty(r, 404);
}

void get_features(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;

    (void)rest;
    server_features(s, &b);
    reply_json(r, 200, &b);
}

static void put_device(struct jsonw *w, const struct sim_server *s)
{
    int64_t total = models_vram_total(), left = total - models_vram_used(&s->models);
    char *name = xasprintf("cuda:0 Simulated GPU (%s) : cudaMallocAsync", s->name);

    jsonw_obj(w);
    jsonw_kstr(w, "name", name);
    jsonw_kstr(w, "type", "cuda");
    jsonw_kint(w, "index", 0);
    jsonw_kint(w, "vram_total", total);
    jsonw_kint(w, "vram_free", left);
    jsonw_kint(w, "torch_vram_total", total - left);
    jsonw_kint(w, "torch_vram_free", 0);
    jsonw_obj_end(w);
    free(name);
}

void get_system_stats(struct sim_server *s, struct http_req *r, const char *rest)
{
    int64_t page = sysconf(_SC_PAGESIZE), total = sysconf(_SC_PHYS_PAGES) * page;
    struct buf b = BUF_INIT;
    struct jsonw w;

    (void)rest;
    jsonw_init(&w, &b);
    jsonw_obj(&w);
    jsonw_key(&w, "system");
    jsonw_obj(&w);
    jsonw_kstr(&w, "os", "posix");
    jsonw_kint(&w, "ram_total", total);
    jsonw_kint(&w, "ram_free", sysconf(_SC_AVPHYS_PAGES) * page);
    jsonw_kstr(&w, "comfyui_version", VERSION_PLAYED);
    jsonw_kstr(&w, "required_frontend_version", "1.32.9");
    jsonw_kstr(&w, "installed_templates_version", "0.1.95");
    jsonw_kstr(&w, "required_templates_version", "0.7.25");
    jsonw_kstr(&w, "python_version", "3.11.7 (simulated)");
    jsonw_kstr(&w, "pytorch_version", "2.11.0+simulated");
    jsonw_kbool(&w, "embedded_python", false);
    jsonw_key(&w, "argv");
    jsonw_arr(&w);
    jsonw_str(&w, "comfymux-sim");
    jsonw_str(&w, s->name);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    jsonw_key(&w, "devices");
    jsonw_arr(&w);
    put_device(&w, s);
    jsonw_arr_end(&w);
    jsonw_obj_end(&w);
    reply_json(r, 200, &b);
}

void get_index(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf b = BUF_INIT;

    (void)rest;
    buf_printf(
        &b,
        "<!doctype html><title>%s</title><h1>%s</h1><p>A simulated ComfyUI server (comfymux sim, plays "
        "%s). It has no frontend of its own: point one at it, or POST /prompt.</p>\n",
        "comfymux sim", "comfymux sim", VERSION_PLAYED);
    http_set(r, "Cache-Control", "no-cache");
    http_set(r, "Pragma", "no-cache");
    http_set(r, "Expires", "0");
    http_reply(r, 200, "text/html", b.data, b.len);
    buf_free(&b);
    (void)s;
}

void get_ws(struct sim_server *s, struct http_req *r, const char *rest)
{
    struct buf sid = BUF_INIT;

    (void)rest;
    (void)http_query_get(http_req_query(r), "clientId", &sid);
    sim_hub_accept(s->hub, r, buf_str(&sid), &s->clock);
    buf_free(&sid);
}
