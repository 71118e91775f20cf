/* What the file choosers of object_info offer: names of uploads, by the kind of file that a chooser takes. Pure; immutable
 * once made, with a count of owners: any thread may hold a reference. */
#ifndef API_CHOICES_H
#define API_CHOICES_H

#include "comfy/object_info.h"
#include "store/store.h"

struct choices;
/* f: the files of type input, in the order of store_input_list(). */
struct choices *choices_new(const struct store_file *f, size_t n);
struct choices *choices_ref(struct choices *c);
void choices_unref(struct choices *c); /* NULL is fine */
/* An object_files_cb; arg is the struct choices. */
bool choices_put(void *arg, const struct object_class *cls, const struct object_input *in, struct buf *list);

#endif
