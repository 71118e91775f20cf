/* Values as Python's json module makes them. A ComfyUI server reads a prompt into such values, changes some
 * of them while it checks the prompt (a "16" for an INT becomes 16), and writes them out again in /queue and
 * /history; the simulator does the same, so it keeps a tree instead of spans.
 *
 * A value belongs to whoever made it; containers own what they hold. Integers of any length keep their
 * digits. Pure; any thread, one at a time. */
#ifndef SIM_VALUE_H
#define SIM_VALUE_H

#include <stdbool.h>

#include "base/hash.h"
#include "base/json.h"

enum val_type { VAL_NULL, VAL_BOOL, VAL_INT, VAL_FLOAT, VAL_STR, VAL_ARR, VAL_OBJ };

struct val_member {
    char *key; /* WTF-8, NUL-terminated; may hold NUL */
    size_t keylen;
    struct val *value;
    UT_hash_handle hh;
};

struct val {
    enum val_type type;
    bool flag;  /* BOOL */
    double num; /* FLOAT */
    char *text; /* STR: WTF-8, NUL-terminated; INT: digits with sign, no leading zeros */
    size_t len; /* of text; or elements of an ARR */
    size_t cap;
    struct val **item;          /* ARR */
    struct val_member *members; /* OBJ, in order of insertion */
};

/* A copy of what a checked text says; as in Python a repeated key keeps its place and takes the last value.
 */
struct val *val_read(struct json j);
/* One whole text. NULL with an error. */
struct val *val_parse(const char *text, size_t n, struct err *e);
struct val *val_null(void);
struct val *val_bool(bool b);
struct val *val_int(int64_t i);
struct val *val_float(double d);
struct val *val_str(const char *s);
struct val *val_strn(const char *s, size_t n);
struct val *val_arr(void);
struct val *val_obj(void);
struct val *val_copy(const struct val *from); /* NULL stays NULL */
void val_free(struct val *v);                 /* NULL is fine */

void val_push(struct val *arr, struct val *item);
/* Puts or replaces; takes over value. */
void val_set(struct val *obj, const char *key, struct val *value);
void val_setn(struct val *obj, const char *key, size_t n, struct val *value);

struct val *val_get(const struct val *obj, const char *key); /* NULL: absent, or not an object */
struct val *val_getn(const struct val *obj, const char *key, size_t n);
size_t val_count(const struct val *v);
#define val_each(m, obj)                                                                                     \
    for (struct val_member *m = (obj) && (obj)->type == VAL_OBJ ? (obj)->members : NULL; m;                  \
         m = (struct val_member *)m->hh.next)

bool val_truthy(const struct val *v); /* Python's bool(); NULL is false */
bool val_is_str(const struct val *v, const char *s);
/* A link to another node's output: [id, slot], as ComfyUI's is_link sees it. */
bool val_is_link(const struct val *v);
/* The number, if it is one (bool too). Integers beyond a double's precision are rounded. */
bool val_number(const struct val *v, double *out);
bool val_int64(const struct val *v, int64_t *out);

/* As json.dumps() writes it. Appended. */
void val_put(struct buf *b, const struct val *v);
/* As str() and repr() write it: 'x', None, True. Appended. */
void val_put_str(struct buf *b, const struct val *v);
void val_put_repr(struct buf *b, const struct val *v);

#endif
