/* JSON values as Python sees them, for saying exactly what ComfyUI says: str(), repr(), int(), float(), ==
 * and
 * <. Pure. */
#ifndef COMFY_PYVALUE_H
#define COMFY_PYVALUE_H

#include <stdbool.h>

#include "base/json.h"

/* str(json.loads(v)): characters, UTF-8 (WTF-8). */
void py_put_str(struct buf *out, struct json v);
/* repr(json.loads(v)): 'x', [1, 2.0, None]. Characters that Python does not print are escaped; of the rest of
 * Unicode all is taken for printable. */
void py_put_repr(struct buf *out, struct json v);

/* type(json.loads(v)).__name__: "NoneType" "int" "dict" ... */
const char *py_type_name(struct json v);

/* int(json.loads(v)): the value as a JSON number is appended to out. False when Python raises, and then why
 * is str(exception) (may be NULL). */
bool py_int(struct json v, struct buf *out, struct buf *why);
/* float(json.loads(v)); likewise. */
bool py_float(struct json v, double *out, struct buf *why);

/* a == b, for scalars and containers: 1 == 1.0 == True. Objects are compared by text. */
bool py_eq(struct json a, struct json b);
/* Both numbers or booleans: -1, 0, 1 in *cmp. False when either is neither, or NaN. Whole numbers of any
 * length are compared exactly. */
bool py_compare(struct json a, struct json b, int *cmp);

#endif
