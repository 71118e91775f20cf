#include "comfy/names.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/utf8.h"

/* ---- safety ------------------------------------------------------------------------------------------- */

bool name_is_safe(const char *s, size_t n)
{
    if (n == 0 || n > 255 || (s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.'))))
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\')
            return false;
    }
    return true;
}

bool name_path_is_safe(const char *s, size_t n)
{
    size_t start = 0;

    if (n == 0 || n > 1024)
        return false;
    if (n >= 2 && s[1] == ':') /* C:, where a Windows server would leave its folder */
        return false;
    for (size_t i = 0; i <= n; i++)
        if (i == n || s[i] == '/') {
            if (!name_is_safe(s + start, i - start))
                return false;
            start = i + 1;
        }
    return true;
}

/* ---- paths of what users keep ------------------------------------------------------------------------- */

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void unquote(const char *s, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        int hi = s[i] == '%' && i + 2 < n ? hex_of(s[i + 1]) : -1, lo = hi >= 0 ? hex_of(s[i + 2]) : -1;

        if (lo >= 0)
            i += 2;
        buf_putc(out, lo >= 0 ? (char)(hi * 16 + lo) : s[i]);
    }
}

enum name_user name_folder(const char *s, size_t n, struct buf *out)
{
    size_t root = out->len, start = 0;

    if (memchr(s, '\0', n) || !utf8_is_valid(s, n))
        return NAME_USER_BAD;
    if (n && s[0] == '/')
        return NAME_USER_ESCAPES;
    for (size_t i = 0; i <= n; i++) {
        size_t len = i - start;

        if (i < n && s[i] != '/')
            continue;
        if (len == 2 && memcmp(s + start, "..", 2) == 0) {
            if (out->len == root)
                return NAME_USER_ESCAPES;
            while (out->len > root && out->data[--out->len] != '/')
                ;
        } else if (len && !(len == 1 && s[start] == '.')) {
            if (len > 255)
                return NAME_USER_BAD;
            if (out->len > root)
                buf_putc(out, '/');
            buf_put(out, s + start, len);
        }
        start = i + 1;
    }
    buf_reserve(out, 1);
    out->data[out->len] = '\0';
    return out->len - root > NAME_USER_MAX ? NAME_USER_BAD : NAME_USER_OK;
}

enum name_user name_user_path(const char *s, size_t n, struct buf *out)
{
    struct buf plain = BUF_INIT;
    enum name_user r;

    if (n == 0 || memchr(s, '%', n) == NULL)
        return name_folder(s, n, out);
    unquote(s, n, &plain);
    r = name_folder(buf_str(&plain), plain.len, out);
    buf_free(&plain);
    return r;
}

/* ---- annotations -------------------------------------------------------------------------------------- */

static const char *const type_names[] = {"input", "output", "temp", ""};

const char *name_type_str(enum name_type t)
{
    return type_names[t];
}

enum name_type name_type_parse(const char *s, size_t n)
{
    for (int t = NAME_INPUT; t < NAME_TYPE_UNKNOWN; t++)
        if (strlen(type_names[t]) == n && memcmp(s, type_names[t], n) == 0)
            return (enum name_type)t;
    return NAME_TYPE_UNKNOWN;
}

enum name_type name_annotation(const char *s, size_t n, enum name_type otherwise, size_t *plain)
{
    *plain = n;
    for (int t = NAME_INPUT; t < NAME_TYPE_UNKNOWN; t++) {
        size_t len = strlen(type_names[t]);

        if (n >= len + 2 && s[n - 1] == ']' && s[n - len - 2] == '[' &&
            memcmp(s + n - len - 1, type_names[t], len) == 0) {
            *plain = n > len + 2 ? n - len - 3 : 0;
            return (enum name_type)t;
        }
    }
    return otherwise;
}

/* ---- virtual names ------------------------------------------------------------------------------------ */

void name_put_virtual(struct buf *out, const char *job, unsigned attempt, const char *subfolder)
{
    assert(attempt >= 1);
    buf_puts(out, job);
    if (attempt > 1)
        buf_printf(out, ".%u", attempt);
    if (*subfolder)
        buf_printf(out, "/%s", subfolder);
}

bool name_virtual_parse(const char *s, size_t n, struct name_virtual *out)
{
    size_t i = UUID_LEN;

    if (n < UUID_LEN || !uuid_is_canonical(s, UUID_LEN))
        return false;
    memcpy(out->job, s, UUID_LEN);
    out->job[UUID_LEN] = '\0';
    out->attempt = 1;
    if (i < n && s[i] == '.') {
        unsigned a = 0;

        if (++i < n && s[i] == '0')
            return false;
        for (; i < n && s[i] >= '0' && s[i] <= '9' && a < 100000; i++)
            a = a * 10 + (unsigned)(s[i] - '0');
        if (a < 2) /* one way to write each */
            return false;
        out->attempt = a;
    }
    if (i < n && s[i] != '/')
        return false;
    out->subfolder = i < n ? s + i + 1 : s + n;
    out->subfolder_n = i < n ? n - i - 1 : 0;
    return i == n || name_path_is_safe(out->subfolder, out->subfolder_n);
}

bool name_ref_parse(const char *s, size_t n, struct name_ref *out)
{
    size_t plain, slash;

    *out = (struct name_ref){0};
    out->type = name_annotation(s, n, NAME_INPUT, &plain);
    if (!name_path_is_safe(s, plain))
        return false;
    for (slash = plain; slash > 0 && s[slash - 1] != '/'; slash--)
        ;
    out->folder = s;
    out->folder_n = slash ? slash - 1 : 0;
    out->file = s + slash;
    out->file_n = plain - slash;
    out->is_virtual = name_virtual_parse(out->folder, out->folder_n, &out->virt);
    return true;
}

/* ---- staged names ------------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* The extension behind the last dot; n when there is none (a leading dot makes none). */
static size_t find_ext(const char *s, size_t n)
{
    for (size_t i = n; i > 1; i--)
        if (s[i - 1] == '.')
            return i;
        else if (s[i - 1] == '/')
            break;
    return n;
}

void name_put_staged(struct buf *out, const char *name, size_t n, const char *hash_hex)
{
    size_t ext, stem, start = n;

    assert(strlen(hash_hex) >= NAME_HASH_HEX);
    while (start > 0 && name[start - 1] != '/')
        start--;
    name += start;
    n -= start;
    ext = find_ext(name, n);
    stem = ext < n ? ext - 1 : n;
    for (size_t i = ext; i < n; i++)
        if (!is_alnum(name[i]) || n - ext > 16) {
            ext = n;
            stem = n;
        }
    if (stem > 64)
        stem = 64;
    if (stem == 0)
        buf_puts(out, "file");
    for (size_t i = 0; i < stem; i++)
        buf_putc(out, is_alnum(name[i]) || name[i] == '-' ? name[i] : '_');
    buf_putc(out, '.');
    buf_put(out, hash_hex, NAME_HASH_HEX);
    if (ext < n)
        buf_putc(out, '.');
    for (size_t i = ext; i < n; i++)
        buf_putc(out, lower(name[i]));
}

bool name_staged_parse(const char *s, size_t n, char hash_hex[NAME_HASH_HEX + 1])
{
    size_t ext = find_ext(s, n), end = n;

    if (memchr(s, '/', n))
        return false;
    if (ext < n && !(n - ext == NAME_HASH_HEX && memchr(s, '.', ext - 1) == NULL))
        end = ext - 1;
    if (end < NAME_HASH_HEX + 2 || s[end - NAME_HASH_HEX - 1] != '.')
        return false;
    for (size_t i = end - NAME_HASH_HEX; i < end; i++)
        if (!is_hex(s[i]))
            return false;
    for (size_t i = 0; i < end - NAME_HASH_HEX - 1; i++)
        if (!is_alnum(s[i]) && s[i] != '-' && s[i] != '_')
            return false;
    memcpy(hash_hex, s + end - NAME_HASH_HEX, NAME_HASH_HEX);
    hash_hex[NAME_HASH_HEX] = '\0';
    return true;
}

/* ---- kinds -------------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {"file", "image", "video", "audio", "text", "latent", "3d", "json"};

static const struct {
    const char *ext, *mime;
    enum name_kind kind;
    bool active;
} exts[] = {
    {"png", "image/png", NAME_IMAGE, false},
    {"jpg", "image/jpeg", NAME_IMAGE, false},
    {"jpeg", "image/jpeg", NAME_IMAGE, false},
    {"webp", "image/webp", NAME_IMAGE, false},
    {"gif", "image/gif", NAME_IMAGE, false},
    {"avif", "image/avif", NAME_IMAGE, false},
    {"apng", "image/apng", NAME_IMAGE, false},
    {"bmp", "image/bmp", NAME_IMAGE, false},
    {"tif", "image/tiff", NAME_IMAGE, false},
    {"tiff", "image/tiff", NAME_IMAGE, false},
    {"exr", "image/x-exr", NAME_IMAGE, false},
    {"hdr", "image/vnd.radiance", NAME_IMAGE, false},
    {"svg", "image/svg+xml", NAME_IMAGE, true},
    {"svgz", "image/svg+xml", NAME_IMAGE, true},
    {"mp4", "video/mp4", NAME_VIDEO, false},
    {"m4v", "video/mp4", NAME_VIDEO, false},
    {"webm", "video/webm", NAME_VIDEO, false},
    {"mkv", "video/x-matroska", NAME_VIDEO, false},
    {"mov", "video/quicktime", NAME_VIDEO, false},
    {"avi", "video/x-msvideo", NAME_VIDEO, false},
    {"flac", "audio/flac", NAME_AUDIO, false},
    {"mp3", "audio/mpeg", NAME_AUDIO, false},
    {"wav", "audio/wav", NAME_AUDIO, false},
    {"ogg", "audio/ogg", NAME_AUDIO, false},
    {"opus", "audio/ogg", NAME_AUDIO, false},
    {"m4a", "audio/mp4", NAME_AUDIO, false},
    {"aac", "audio/aac", NAME_AUDIO, false},
    {"txt", "text/plain", NAME_TEXT, false},
    {"md", "text/markdown", NAME_TEXT, false},
    {"csv", "text/csv", NAME_TEXT, false},
    {"srt", "application/x-subrip", NAME_TEXT, false},
    {"vtt", "text/vtt", NAME_TEXT, false},
    {"yaml", "application/yaml", NAME_TEXT, false},
    {"latent", "application/octet-stream", NAME_LATENT, false},
    {"glb", "model/gltf-binary", NAME_3D, false},
    {"gltf", "model/gltf+json", NAME_3D, false},
    {"obj", "model/obj", NAME_3D, false},
    {"fbx", "application/octet-stream", NAME_3D, false},
    {"stl", "model/stl", NAME_3D, false},
    {"ply", "application/octet-stream", NAME_3D, false},
    {"usdz", "model/vnd.usdz+zip", NAME_3D, false},
    {"splat", "application/octet-stream", NAME_3D, false},
    {"spz", "application/octet-stream", NAME_3D, false},
    {"ksplat", "application/octet-stream", NAME_3D, false},
    {"json", "application/json", NAME_JSON, false},
    {"safetensors", "application/octet-stream", NAME_FILE, false},
    {"zip", "application/zip", NAME_FILE, false},
    {"pdf", "application/pdf", NAME_FILE, false},
    {"html", "text/html", NAME_FILE, true},
    {"htm", "text/html", NAME_FILE, true},
    {"xhtml", "application/xhtml+xml", NAME_FILE, true},
    {"shtml", "text/html", NAME_FILE, true},
    {"js", "text/javascript", NAME_FILE, true},
    {"mjs", "text/javascript", NAME_FILE, true},
    {"css", "text/css", NAME_FILE, true},
    {"xml", "application/xml", NAME_FILE, true},
    {"xsl", "application/xml", NAME_FILE, true},
    {"xslt", "application/xml", NAME_FILE, true},
};

static int lookup(const char *name, size_t n)
{
    size_t ext = find_ext(name, n);

    for (size_t i = 0; ext < n && i < ARRAY_LEN(exts); i++)
        if (strlen(exts[i].ext) == n - ext && strncasecmp(name + ext, exts[i].ext, n - ext) == 0)
            return (int)i;
    return -1;
}

const char *name_kind_str(enum name_kind k)
{
    return kind_names[k];
}

enum name_kind name_kind_of(const char *name, size_t n)
{
    int i = lookup(name, n);

    return i < 0 ? NAME_FILE : exts[i].kind;
}

const char *name_mime(const char *name, size_t n)
{
    int i = lookup(name, n);

    return i < 0 ? "application/octet-stream" : exts[i].mime;
}

bool name_is_active(const char *name, size_t n)
{
    int i = lookup(name, n);

    return i >= 0 && exts[i].active;
}
