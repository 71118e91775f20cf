/* The body of POST /prompt: read and type-checked once, taken apart into what is stored, and put together
 * again for the server that runs it.
 *
 * Types are insisted on because stock servers do not: a client_id that is a list or object ends the process
 * of ComfyUI 0.3.64 and 0.3.75, an extra_data of null or a number kills the worker thread of 0.3.64, a NaN
 * number breaks the order of the queue (protocol sheet 1.2, pitfall 32). Pure. */
#ifndef COMFY_PROMPT_REQUEST_H
#define COMFY_PROMPT_REQUEST_H

#include <stdbool.h>

#include "base/json.h"
#include "base/uuid.h"
#include "comfy/prompt_error.h"

/* Longest client and window id, bytes: they are kept with every job and told in every list. */
#define CLIENT_ID_MAX 256

struct prompt_request {
    struct json prompt;        /* an object; its nodes are graph_new()'s to judge. Into the text */
    char prompt_id[UUID_SIZE]; /* "" if the client brought none */
    char *client_id;           /* from the body, else from extra_data; NULL if neither has one */
    char *window_id;           /* extra_data.window_id; NULL if none */
    bool has_number, front;    /* front: truthy, and no number */
    double number;             /* finite; "5" and true count as Python's float() has it */
    struct json targets;   /* partial_execution_targets: a list, or what Python's `in` takes, a string or an
                              object; none if absent or null. Into the text */
    struct buf extra_data; /* JSON object without secrets, window_id, client_id, and the nulls under
                              extra_pnginfo at which a stock /api/jobs stumbles; empty if none was sent */
    struct buf secrets;    /* JSON object of auth_token_comfy_org, api_key_comfy_org; empty if none */
    struct buf rest;       /* JSON object of the unknown top-level keys, which custom nodes may read; empty
                              if none */
};

/* Read the body, which must outlive r. 0, or -1 and e says what to answer (status 400): types invalid_json,
 * no_prompt, invalid_prompt, invalid_prompt_id, invalid_client_id, invalid_number, invalid_extra_data,
 * invalid_partial_execution_targets, invalid_window_id. On -1 there is nothing to free in r. */
int prompt_request_parse(const char *text, size_t len, struct prompt_request *r,
                         struct prompt_error *e) MUST_CHECK;
/* Secrets are overwritten. */
void prompt_request_fini(struct prompt_request *r);

/* The spans of secrets' values, or none; for asking whether a job has any. */
bool prompt_key_is_secret(struct json key);

/* Is this node wanted under partial_execution_targets? Python's `id in targets`; true for no value. */
bool prompt_targets_has(struct json targets, const char *id, size_t n);

/* What goes to a server: never number or front, always our own ids. Every span is a checked text of the type
 * named in struct prompt_request, or none. */
struct prompt_upstream {
    struct json graph;
    const char *prompt_id; /* the attempt's */
    const char *client_id; /* that of our socket to this server */
    struct json extra_data, secrets, targets, rest;
};
void prompt_upstream_put(struct buf *out, const struct prompt_upstream *u);

#endif
