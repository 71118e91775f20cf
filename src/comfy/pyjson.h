/* JSON as Python writes it after having read it: what a stock server keeps in its files. Pure. */
#ifndef COMFY_PYJSON_H
#define COMFY_PYJSON_H

#include "base/json.h"

/* json.dumps(json.loads(v)): numbers in their shortest form (2.50 is 2.5), of repeated keys the last value at the first
 * place. indent: spaces per level, each member on a line of its own; 0: all in one line. */
void py_put_json(struct buf *out, struct json v, unsigned indent);
/* The same of {**a, **b}: both are objects; a may be no value. */
void py_put_merged(struct buf *out, struct json a, struct json b, unsigned indent);

#endif
