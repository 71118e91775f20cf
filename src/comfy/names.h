/* Names of files, as ComfyUI and its clients pass them around.
 *
 * Every server makes a ComfyUI_00001_.png, so downstream an output stands in a virtual subfolder that says
 * which attempt made it: `<job id>[/<subfolder>]`, for attempt n > 1 `<job id>.<n>[/<subfolder>]`. An input
 * that a job needs lies on its server under a staged name, `<stem>.<12 hex of its hash>.<ext>`, at the top
 * level of the input folder. Both are taken back to what they stand for here. Pure. */
#ifndef COMFY_NAMES_H
#define COMFY_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/uuid.h"

/* ---- safety ---- */

/* A relative path that stays where it is put: not empty, not absolute, no "." or ".." or empty component, no
 * backslash, drive letter, NUL or control byte, at most 1024 bytes, a component at most 255. */
bool name_path_is_safe(const char *s, size_t n);
/* One component of such a path. */
bool name_is_safe(const char *s, size_t n);

/* ---- paths of what users keep ---- */

#define NAME_USER_MAX 1024 /* bytes of such a path */
enum name_user {
    NAME_USER_OK,
    NAME_USER_ESCAPES, /* leads out of the user's folder */
    NAME_USER_BAD      /* holds NUL, is no UTF-8, or is too long */
};
/* The path that a stock server makes of what a client wrote, appended: once more percent-decoded where there is a '%'
 * (broken escapes stay), "." ".." and empty components resolved. "" is the folder itself. */
enum name_user name_user_path(const char *s, size_t n, struct buf *out);
/* As a folder within another, written by a client: "a/./b/" is "a/b"; without the second decoding. */
enum name_user name_folder(const char *s, size_t n, struct buf *out);

/* ---- annotated names: "x.png [output]" ---- */

enum name_type { NAME_INPUT, NAME_OUTPUT, NAME_TEMP, NAME_TYPE_UNKNOWN };
const char *name_type_str(enum name_type t); /* "input" "output" "temp" "" */
enum name_type name_type_parse(const char *s, size_t n);
/* Takes one of " [input]", " [output]", " [temp]" off: *plain is the length without it. As the stock server
 * does, the byte before the bracket goes whatever it is. No such ending: `otherwise` and *plain = n. */
enum name_type name_annotation(const char *s, size_t n, enum name_type otherwise, size_t *plain);

/* ---- virtual names ---- */

struct name_virtual {
    char job[UUID_SIZE];
    unsigned attempt;      /* 1 is the first */
    const char *subfolder; /* the server's own, within the text given; "" of length 0 */
    size_t subfolder_n;
};
/* attempt >= 1. */
void name_put_virtual(struct buf *out, const char *job, unsigned attempt, const char *subfolder);
/* Is this subfolder a virtual one? What follows the id must be empty or a safe path. */
bool name_virtual_parse(const char *s, size_t n, struct name_virtual *out);

/* What a string in a graph may say about a file: `[<folder>/]<file>[ [type]]`. */
struct name_ref {
    enum name_type type; /* input unless it says otherwise */
    const char *folder;  /* as written, without the last slash; length 0 if none */
    size_t folder_n;
    const char *file;
    size_t file_n;
    bool is_virtual;
    struct name_virtual virt; /* when folder is a virtual one */
};
/* False when it is no safe path. */
bool name_ref_parse(const char *s, size_t n, struct name_ref *out);

/* ---- staged names ---- */

#define NAME_HASH_HEX 12
/* hash_hex: at least 12 lowercase hex digits. Only letters, digits, '-' and '_' of the stem survive (others
 * become '_'), at most 64; an extension of letters and digits of at most 16, in lower case. */
void name_put_staged(struct buf *out, const char *name, size_t n, const char *hash_hex);
/* Does it look like a staged name? Then the 12 digits (NUL-terminated). */
bool name_staged_parse(const char *s, size_t n, char hash_hex[NAME_HASH_HEX + 1]);

/* ---- kinds ---- */

enum name_kind { NAME_FILE, NAME_IMAGE, NAME_VIDEO, NAME_AUDIO, NAME_TEXT, NAME_LATENT, NAME_3D, NAME_JSON };
const char *name_kind_str(enum name_kind k); /* "image" ... "3d" "json" "file" */
enum name_kind name_kind_of(const char *name, size_t n);
/* Media type by extension; "application/octet-stream" if unknown. */
const char *name_mime(const char *name, size_t n);
/* Content that a browser would run (html, js, css, svg, xml and relatives): never served as itself. */
bool name_is_active(const char *name, size_t n);

#endif
