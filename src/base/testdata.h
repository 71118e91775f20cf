/* For tests only: read the recordings of real ComfyUI servers, a folder that is not part of the tree. The
 * environment variable COMFYMUX_SHARED names the folder that holds recordings/; without it the tests that
 * want recordings say so and skip. */
#ifndef BASE_TESTDATA_H
#define BASE_TESTDATA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

/* A folder that holds recordings/, or NULL after printing why the caller skips. */
const char *testdata_root(void);
/* root/path (must exist); .gz is unpacked. Caller frees. */
struct bytes *testdata_read(const char *path);
/* Call fn for every line of a session file ("sessions/c1_validation_errors"), parsed. */
void testdata_session(const char *name, void (*fn)(void *arg, struct json line), void *arg);
/* The same for every session and hostile session there is; *file is the session's name. */
void testdata_all(void (*fn)(void *arg, const char *file, struct json line), void *arg);
/* The value at a dotted path of object keys ("response.body"). */
struct json testdata_at(struct json v, const char *path);
/* A string's characters; "" when there is none. Caller frees. */
char *testdata_str(struct json v, size_t *len);
/* Check text (which must be JSON, else the test aborts) and give its span. */
struct json testdata_parse(const char *text, size_t len);

#endif
