#include "comfy/prompt_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comfy/pyvalue.h"
#include "comfy/splice.h"

enum field { F_PROMPT, F_PROMPT_ID, F_CLIENT_ID, F_NUMBER, F_FRONT, F_EXTRA_DATA, F_TARGETS, F_COUNT };

static const char *const field_names[F_COUNT] = {
    "prompt", "prompt_id", "client_id", "number", "front", "extra_data", "partial_execution_targets"};

static int field_of(struct json key)
{
    for (int i = 0; i < F_COUNT; i++)
        if (json_str_eq(key, field_names[i]))
            return i;
    return -1;
}

bool prompt_key_is_secret(struct json key)
{
    return json_str_eq(key, "auth_token_comfy_org") || json_str_eq(key, "api_key_comfy_org");
}

static void buf_wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    buf_free(b);
}

void prompt_request_fini(struct prompt_request *r)
{
    free(r->client_id);
    free(r->window_id);
    buf_free(&r->extra_data);
    buf_wipe(&r->secrets);
    buf_free(&r->rest);
    *r = (struct prompt_request){0};
}

/* An absent or null id stays NULL; anything else but a string without U+0000 of bounded length is refused. */
static int take_id(struct json v, char **out, struct prompt_error *e, const char *type, const char *name)
{
    char message[96];

    if (json_is_null(v))
        return 0;
    free(*out);
    *out = json_strdup(v);
    if (*out && strlen(*out) <= CLIENT_ID_MAX)
        return 0;
    if (*out)
        snprintf(message, sizeof(message), "%s must have at most %d bytes", name, CLIENT_ID_MAX);
    else
        snprintf(message, sizeof(message), "%s must be a string", name);
    return prompt_error_set(e, type, message, name);
}

static int take_prompt_id(struct prompt_request *r, struct json v, struct prompt_error *e)
{
    char *s;
    bool ok;

    if (json_is_null(v))
        return 0;
    s = json_strdup(v);
    ok = s && uuid_is_canonical(s, strlen(s));
    if (ok)
        memcpy(r->prompt_id, s, UUID_SIZE);
    free(s);
    if (!ok)
        return prompt_error_set(e, "invalid_prompt_id", "prompt_id must be a valid UUID", "prompt_id");
    return 0;
}

static int take_number(struct prompt_request *r, struct json number, struct json front,
                       struct prompt_error *e)
{
    if (!number.p) {
        r->front = json_truthy(front);
        return 0;
    }
    if (!py_float(number, &r->number, NULL) || !isfinite(r->number))
        return prompt_error_set(e, "invalid_number", "number must be a finite number", "number");
    r->has_number = true;
    return 0;
}

/* ---- extra_data --------------------------------------------------------------------------------------- */

static bool not_kept(void *arg, struct json key, struct json value)
{
    (void)arg;
    return prompt_key_is_secret(key) || json_str_eq(key, "window_id") || json_str_eq(key, "client_id") ||
           (json_str_eq(key, "extra_pnginfo") && json_is_null(value));
}

static bool null_workflow(void *arg, struct json key, struct json value)
{
    (void)arg;
    return json_str_eq(key, "workflow") && json_is_null(value);
}

static void put_clean(struct buf *out, struct json extra)
{
    struct buf once = BUF_INIT, inner = BUF_INIT;
    struct json v, info;

    splice_put_without(&once, extra, not_kept, NULL);
    if (json_check(once.data, once.len, NULL, &v, NULL) == 0) {
        struct edits ed = EDITS_INIT;

        info = json_get(v, "extra_pnginfo");
        if (json_type(info) == JSON_OBJECT) {
            splice_put_without(&inner, info, null_workflow, NULL);
            edits_replace(&ed, info, inner.data, inner.len);
        }
        edits_put(&ed, out, v);
        edits_fini(&ed);
    }
    buf_free(&once);
    buf_free(&inner);
}

static int take_extra_data(struct prompt_request *r, struct json extra, struct prompt_error *e)
{
    struct json_iter it;
    struct json k, v, client = {NULL, 0}, window = {NULL, 0};
    struct jsonw w;
    bool any = false;

    if (json_is_null(extra))
        return 0;
    if (json_type(extra) != JSON_OBJECT)
        return prompt_error_set(e, "invalid_extra_data", "extra_data must be an object", "extra_data");
    it = json_iter(extra);
    while (json_next(&it, &k, &v)) {
        if (json_str_eq(k, "client_id"))
            client = v;
        else if (json_str_eq(k, "window_id"))
            window = v;
        else
            any |= prompt_key_is_secret(k);
    }
    if (!r->client_id && take_id(client, &r->client_id, e, "invalid_client_id", "extra_data.client_id") < 0)
        return -1;
    if (take_id(window, &r->window_id, e, "invalid_window_id", "extra_data.window_id") < 0)
        return -1;
    if (any) {
        jsonw_init(&w, &r->secrets);
        jsonw_obj(&w);
        for (it = json_iter(extra); json_next(&it, &k, &v);)
            if (prompt_key_is_secret(k)) {
                jsonw_key(&w,
                          json_str_eq(k, "api_key_comfy_org") ? "api_key_comfy_org" : "auth_token_comfy_org");
                jsonw_span(&w, v);
            }
        jsonw_obj_end(&w);
    }
    put_clean(&r->extra_data, extra);
    return 0;
}

/* ---- the body ----------------------------------------------------------------------------------------- */

static bool known_key(void *arg, struct json key, struct json value)
{
    (void)arg;
    (void)value;
    return field_of(key) >= 0 || prompt_key_is_secret(key);
}

static int take_fields(struct prompt_request *r, struct json body, const struct json f[F_COUNT],
                       struct prompt_error *e)
{
    enum json_type t = json_type(f[F_TARGETS]);

    if (!f[F_PROMPT].p)
        return prompt_error_set(e, "no_prompt", "No prompt provided", "No prompt provided");
    r->prompt = f[F_PROMPT];
    if ((json_type(r->prompt) == JSON_ARRAY || json_type(r->prompt) == JSON_STRING) &&
        !json_truthy(r->prompt))
        r->prompt = (struct json){"{}", 2}; /* to ComfyUI a graph without nodes */
    if (json_type(r->prompt) != JSON_OBJECT)
        return prompt_error_set(e, "invalid_prompt", "The prompt must be an object of nodes", "prompt");
    if (t == JSON_ARRAY || t == JSON_STRING || t == JSON_OBJECT)
        r->targets = f[F_TARGETS];
    else if (t != JSON_NONE && t != JSON_NULL)
        return prompt_error_set(e, "invalid_partial_execution_targets",
                                "partial_execution_targets must be a list of node ids",
                                "partial_execution_targets");
    if (take_prompt_id(r, f[F_PROMPT_ID], e) < 0 ||
        take_id(f[F_CLIENT_ID], &r->client_id, e, "invalid_client_id", "client_id") < 0 ||
        take_number(r, f[F_NUMBER], f[F_FRONT], e) < 0 || take_extra_data(r, f[F_EXTRA_DATA], e) < 0)
        return -1;
    splice_put_without(&r->rest, body, known_key, NULL);
    if (strcmp(r->rest.data, "{}") == 0)
        buf_free(&r->rest);
    return 0;
}

int prompt_request_parse(const char *text, size_t len, struct prompt_request *r, struct prompt_error *e)
{
    struct json body, k, v, f[F_COUNT] = {{NULL, 0}};
    struct json_iter it;
    struct err err;

    *r = (struct prompt_request){0};
    if (json_check(text, len, NULL, &body, &err) < 0)
        return prompt_error_set(e, "invalid_json", "The body is not valid JSON", err.msg);
    if (json_type(body) == JSON_OBJECT)
        for (it = json_iter(body); json_next(&it, &k, &v);)
            if (field_of(k) >= 0)
                f[field_of(k)] = v;
    if (take_fields(r, body, f, e) < 0) {
        prompt_request_fini(r);
        return -1;
    }
    return 0;
}

bool prompt_targets_has(struct json targets, const char *id, size_t n)
{
    struct json_iter it = json_iter(targets);
    struct buf s = BUF_INIT;
    struct json k, v;
    bool has = false;

    switch (json_type(targets)) {
    case JSON_NONE:
    case JSON_NULL: return true;
    case JSON_STRING:
        json_str(targets, &s);
        has = memmem(buf_str(&s), s.len, id, n) != NULL;
        buf_free(&s);
        return has;
    default:
        while (!has && json_next(&it, &k, &v))
            has = json_str_eqn(it.object ? k : v, id, n);
        return has;
    }
}

/* ---- upstream ----------------------------------------------------------------------------------------- */

static void put_members(struct jsonw *w, struct json obj)
{
    struct json_iter it = json_iter(obj);
    struct json k, v;

    if (json_type(obj) != JSON_OBJECT)
        return;
    while (json_next(&it, &k, &v)) {
        struct buf name = BUF_INIT;

        json_str(k, &name);
        jsonw_keyn(w, buf_str(&name), name.len);
        jsonw_span(w, v);
        buf_free(&name);
    }
}

void prompt_upstream_put(struct buf *out, const struct prompt_upstream *u)
{
    struct jsonw w;

    jsonw_init(&w, out);
    jsonw_obj(&w);
    jsonw_kspan(&w, "prompt", u->graph);
    jsonw_kstr(&w, "prompt_id", u->prompt_id);
    jsonw_kstr(&w, "client_id", u->client_id);
    jsonw_key(&w, "extra_data");
    jsonw_obj(&w);
    put_members(&w, u->extra_data);
    put_members(&w, u->secrets);
    jsonw_kstr(&w, "client_id", u->client_id);
    jsonw_obj_end(&w);
    if (u->targets.p)
        jsonw_kspan(&w, "partial_execution_targets", u->targets);
    put_members(&w, u->rest);
    jsonw_obj_end(&w);
}
