/* An ended job as ComfyUI's jobs API shows it (newest dialect, 0.38), out of its history. Clients check these shapes to the
 * letter: one wrong member rejects a whole list. Pure. */
#ifndef COMFY_JOB_CARD_H
#define COMFY_JOB_CARD_H

#include "base/json.h"

/* What a list shows of it: the members execution_start_time, execution_end_time, execution_error (those that there are),
 * outputs_count, previewable_outputs_count and preview_output (if there is one), parted by ", ". outputs and status are
 * those of its history entry; either may be no value. */
void job_card_put(struct buf *b, struct json outputs, struct json status);
/* "outputs" of the details: names of 3D files become entries, nulls go. */
void job_card_put_outputs(struct buf *b, struct json outputs);

#endif
