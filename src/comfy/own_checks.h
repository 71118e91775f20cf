/* Made by test/real/own_checks.py from ComfyUI 0.3.75; do not edit.
 *
 * Its own classes that check inputs themselves, and which: then ComfyUI looks at neither their list nor their
 * limits. "**": all of them; "input_types": the types of links are left to the class. GET /object_info shows
 * nothing of it. */
#ifndef COMFY_OWN_CHECKS_H
#define COMFY_OWN_CHECKS_H

/* clang-format off */
static const struct {
    const char *cls, *input;
} own_checks[] = {
    {"LoadAudio", "audio"},
    {"LoadImage", "image"},
    {"LoadImageMask", "image"},
    {"LoadImageOutput", "image"},
    {"LoadLatent", "latent"},
    {"LoadVideo", "file"},
    {"WebcamCapture", "image"},
};
/* clang-format on */

#endif
