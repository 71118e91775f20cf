#include "api/mask.h"

#include <blake3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/file_find.h"
#include "base/log.h"

#define PIECE (1u << 20)
#define QUEUED_LOW (1u << 20)

/*   finding the original ──> [fetching it] ──> opening both ──> composing ──> storing what was made */
struct composing {
    struct api *a;
    char *filename;
    struct blob_info mask;
    struct blob_info original; /* pin: of one that was fetched */
    int fd, mask_fd;
    int made_fd; /* what is being stored */
    int64_t left;
    struct blob_writer *w;
    mask_cb *cb;
    void *arg;
    struct task at_once; /* answered before anybody was asked */
    const char *why;     /* NULL: there can be no such file */
};

static void composing_end(struct composing *c, int status, const char *why, const struct blob_info *made)
{
    struct mask_result r = {.status = status, .why = why};

    if (made)
        r.made = *made;
    c->cb(&r, c->arg);
    if (c->original.pin && !c->a->stopped)
        blobs_unpin(c->a->d.blobs, c->original.pin);
    if (c->fd >= 0)
        close(c->fd);
    if (c->mask_fd >= 0)
        close(c->mask_fd);
    if (c->made_fd >= 0)
        close(c->made_fd);
    free(c->filename);
    free(c);
}

static void on_at_once(void *arg)
{
    struct composing *c = arg;

    composing_end(c, c->why ? 400 : 0, c->why, NULL);
}

/* --- storing --- */

static void on_kept(enum blob_status st, const struct blob_info *info, const char *why, void *arg)
{
    if (st == BLOB_OK)
        composing_end(arg, 0, NULL, info);
    else
        composing_end(arg, st == BLOB_FULL ? 507 : 500, why, NULL);
}

/* Piece after piece, as fast as they are written. */
static void keep_more(void *arg)
{
    struct composing *c = arg;
    char *piece;
    ssize_t n;

    while (c->w && c->left > 0 && blob_writer_queued(c->w) <= QUEUED_LOW) {
        piece = xmalloc(PIECE);
        n = read(c->made_fd, piece, c->left < PIECE ? (size_t)c->left : PIECE);
        if (n > 0)
            blob_writer_put(c->w, piece, (size_t)n);
        free(piece);
        if (n <= 0) {
            blob_writer_abort(&c->w);
            composing_end(c, 500, "what was composed cannot be read", NULL);
            return;
        }
        c->left -= n;
    }
    if (c->w && c->left == 0)
        blob_writer_finish(&c->w, on_kept, c);
}

static void on_composed(const struct image_result *r, void *arg)
{
    struct composing *c = arg;

    switch (r->status) {
    case IMAGE_OK: break;
    case IMAGE_BUSY:
    case IMAGE_UNAVAILABLE: composing_end(c, 503, r->why, NULL); return;
    case IMAGE_NO_SPACE: composing_end(c, 507, r->why, NULL); return;
    default:
        log_info(LOG_S("event", "mask_refused"), LOG_S("file", c->filename), LOG_S("reason", r->why));
        composing_end(c, 400, r->why, NULL);
        return;
    }
    c->made_fd = r->fd;
    c->left = r->size;
    if (c->a->stopped) {
        composing_end(c, 503, "the gateway stops", NULL);
        return;
    }
    c->w = blob_writer_new(c->a->d.blobs, 0);
    blob_writer_on_drain(c->w, QUEUED_LOW, keep_more, c);
    keep_more(c);
}

/* --- opening --- */

static void compose(struct composing *c)
{
    uint8_t key[BLAKE3_LEN];
    blake3_hasher h;

    blake3_hasher_init(&h);
    blake3_hasher_update(&h, c->original.blake3, BLAKE3_LEN);
    blake3_hasher_update(&h, c->mask.blake3, BLAKE3_LEN);
    blake3_hasher_finalize(&h, key, BLAKE3_LEN);
    images_compose(c->a->d.images, key, c->fd, c->mask_fd, on_composed, c);
    c->fd = c->mask_fd = -1;
}

static void on_mask_open(enum blob_found found, int fd, const char *why, void *arg)
{
    struct composing *c = arg;

    c->mask_fd = fd;
    if (found != BLOB_SOUND)
        composing_end(c, 500, why, NULL);
    else if (c->a->stopped || c->a->d.images == NULL || !images_usable(c->a->d.images))
        composing_end(c, 503, "masks cannot be composed: there is no image helper", NULL);
    else
        compose(c);
}

static void on_original_open(enum blob_found found, int fd, const char *why, void *arg)
{
    struct composing *c = arg;

    c->fd = fd;
    if (found != BLOB_SOUND || c->a->stopped)
        composing_end(c, found == BLOB_GONE || found == BLOB_DAMAGED ? 410 : 500, why, NULL);
    else
        blob_check(c->a->d.blobs, c->mask.blake3, c->mask.size, on_mask_open, c);
}

static void open_original(struct composing *c)
{
    if (c->a->stopped)
        composing_end(c, 503, "the gateway stops", NULL);
    else
        blob_check(c->a->d.blobs, c->original.blake3, c->original.size, on_original_open, c);
}

/* --- finding --- */

static void on_fetched(const struct fleet_fetched *r, void *arg)
{
    struct composing *c = arg;

    if (r->end == FLEET_FETCHED) {
        memcpy(c->original.blake3, r->blake3, BLAKE3_LEN);
        c->original.size = r->size;
        c->original.pin = r->pin;
        open_original(c);
    } else if (r->end == FLEET_NOT_THERE) {
        composing_end(c, 0, NULL, NULL);
    } else {
        composing_end(c, r->end == FLEET_DISK_FULL ? 507 : 502, r->why, NULL);
    }
}

struct wanted {
    struct composing *c;
    enum name_type type;
};

static void on_found(const struct file_found *f, void *arg)
{
    struct wanted w = *(struct wanted *)arg;
    struct composing *c = w.c;
    struct fleet_file file;

    free(arg);
    if (c->a->stopped) {
        composing_end(c, 503, "the gateway stops", NULL);
        return;
    }
    switch (f->where) {
    case FILE_STORED:
        memcpy(c->original.blake3, f->blake3, BLAKE3_LEN);
        c->original.size = f->size;
        open_original(c);
        break;
    case FILE_ON_SERVER:
        file = (struct fleet_file){.server = f->server,
                                   .filename = c->filename,
                                   .subfolder = f->subfolder,
                                   .type = name_type_str(w.type)};
        fleet_fetch(registry_fleet(c->a->d.registry), &file, on_fetched, c);
        break;
    case FILE_EXPIRED: composing_end(c, 410, "the original is kept no longer", NULL); break;
    case FILE_NOWHERE:
        log_warn(LOG_S("event", "mask_without_original"), LOG_S("file", c->filename));
        composing_end(c, 0, NULL, NULL);
        break;
    default: composing_end(c, 503, "the original cannot be looked for", NULL);
    }
}

/* What is named; NULL: fine, else why not. *nowhere: as a stock server has it, such a file just does not exist. */
static const char *ref_read(const struct buf *text, struct composing *c, struct buf *folder,
                            enum name_type *type, bool *nowhere)
{
    char *sub = NULL, *kind = NULL;
    const char *why = NULL;
    struct json ref;
    size_t plain;

    if (json_check(buf_str(text), text->len, NULL, &ref, NULL) < 0 ||
        (c->filename = json_strdup(json_get(ref, "filename"))) == NULL)
        return "original_ref is no object with a filename";
    sub = json_strdup(json_get(ref, "subfolder"));
    kind = json_strdup(json_get(ref, "type"));
    *type = name_annotation(c->filename, strlen(c->filename),
                            kind ? name_type_parse(kind, strlen(kind)) : NAME_OUTPUT, &plain);
    c->filename[plain] = '\0';
    *nowhere = c->filename[0] == '\0' || c->filename[0] == '/' || strstr(c->filename, "..") ||
               *type == NAME_TYPE_UNKNOWN ||
               (sub && (name_folder(sub, strlen(sub), folder) != NAME_USER_OK ||
                        (folder->len && !name_path_is_safe(buf_str(folder), folder->len))));
    free(sub);
    free(kind);
    return why;
}

/* "sub/x.png": its folder goes behind the subfolder. */
static bool split_name(struct composing *c, struct buf *folder)
{
    char *slash = strrchr(c->filename, '/');

    if (slash) {
        if (folder->len)
            buf_putc(folder, '/');
        buf_put(folder, c->filename, (size_t)(slash - c->filename));
        memmove(c->filename, slash + 1, strlen(slash + 1) + 1);
    }
    return name_is_safe(c->filename, strlen(c->filename)) &&
           (folder->len == 0 || name_path_is_safe(buf_str(folder), folder->len));
}

void mask_compose(struct api *a, const char *tenant, const struct buf *ref, const struct blob_info *mask,
                  mask_cb *cb, void *arg)
{
    struct composing *c = xcalloc(1, sizeof(*c));
    struct buf folder = BUF_INIT;
    enum name_type type = NAME_OUTPUT;
    struct wanted *w;
    bool nowhere = false;

    *c = (struct composing){
        .a = a, .mask = *mask, .fd = -1, .mask_fd = -1, .made_fd = -1, .cb = cb, .arg = arg};
    task_init(&c->at_once, on_at_once, c);
    c->why = ref_read(ref, c, &folder, &type, &nowhere);
    if (c->why || nowhere || !split_name(c, &folder)) {
        loop_defer(a->d.loop, &c->at_once);
    } else {
        w = xcalloc(1, sizeof(*w));
        *w = (struct wanted){c, type};
        file_find_name(a, tenant, type, buf_str(&folder), c->filename, false, on_found, w);
    }
    buf_free(&folder);
}
