/* Sealed: one byte that names the way (1), a nonce of 12, the text as long as it was, a tag of 16. */
#include "store/vault.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#define KEY_LEN 32
#define NONCE_LEN 12
#define TAG_LEN 16
#define WAY_LEN 1
#define SEALED_BY_GCM 1
#define EXTRA_LEN (WAY_LEN + NONCE_LEN + TAG_LEN)

struct vault {
    unsigned char key[KEY_LEN];
};

/* --- the key's file --- */

static int key_read(struct vault *v, int fd, const char *path, struct err *e)
{
    unsigned char more;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(e, errno, "%s", path);
    if (st.st_mode & 077)
        return err_set(e, EPERM, "%s: others than its owner may read it: chmod 600 it, if nobody has", path);
    if (read(fd, v->key, KEY_LEN) != KEY_LEN || read(fd, &more, 1) != 0)
        return err_set(e, EINVAL,
                       "%s: not a key of %d bytes: bring back the right one, or remove the file (secrets of "
                       "jobs that wait are lost then)",
                       path, KEY_LEN);
    return 0;
}

static int dir_sync(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? err_errno(e, errno, "%s", dir) : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Whole or not at all: under another name first. */
static int key_make(struct vault *v, const char *dir, const char *path, struct err *e)
{
    char *tmp = xasprintf("%s.new", path);
    int fd, rc = -1;

    (void)unlink(tmp); /* left by a crash */
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (RAND_priv_bytes(v->key, KEY_LEN) != 1)
        err_set(e, EIO, "%s: no random bytes to be had", path);
    else if (fd < 0 || write(fd, v->key, KEY_LEN) != KEY_LEN || fsync(fd) < 0 || rename(tmp, path) < 0)
        err_errno(e, errno, "%s: cannot be written", path);
    else
        rc = dir_sync(dir, e);
    if (fd >= 0)
        close(fd);
    free(tmp);
    return rc;
}

struct vault *vault_open(const char *dir, struct err *e)
{
    struct vault *v = xcalloc(1, sizeof(*v));
    char *path = xasprintf("%s/secrets.key", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd >= 0) {
        rc = key_read(v, fd, path, e);
        close(fd);
    } else if (errno == ENOENT) {
        rc = key_make(v, dir, path, e);
    } else {
        rc = err_errno(e, errno, "%s", path);
    }
    free(path);
    if (rc < 0)
        vault_close(&v);
    return v;
}

void vault_close(struct vault **v)
{
    if (*v == NULL)
        return;
    explicit_bzero((*v)->key, KEY_LEN);
    free(*v);
    *v = NULL;
}

/* --- sealing --- */

static EVP_CIPHER_CTX *gcm(const struct vault *v, const char *id, const unsigned char *nonce, int seal)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n;

    if (c == NULL || EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, v->key, nonce, seal) != 1 ||
        EVP_CipherUpdate(c, NULL, &n, (const unsigned char *)id, (int)strlen(id)) != 1)
        abort(); /* out of memory, or an OpenSSL without AES */
    return c;
}

struct bytes *vault_seal(const struct vault *v, const char *id, const struct bytes *plain)
{
    struct bytes *out = bytes_alloc(plain->len + EXTRA_LEN);
    unsigned char *p = (unsigned char *)out->data, *text = p + WAY_LEN + NONCE_LEN;
    EVP_CIPHER_CTX *c;
    int n, end;

    p[0] = SEALED_BY_GCM;
    if (RAND_bytes(p + WAY_LEN, NONCE_LEN) != 1)
        abort(); /* a nonce used twice would give the key away */
    c = gcm(v, id, p + WAY_LEN, 1);
    if (EVP_CipherUpdate(c, text, &n, (const unsigned char *)plain->data, (int)plain->len) != 1 ||
        EVP_CipherFinal_ex(c, text + n, &end) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_LEN, text + plain->len) != 1)
        abort();
    assert((size_t)n + (size_t)end == plain->len);
    EVP_CIPHER_CTX_free(c);
    return out;
}

struct bytes *vault_unseal(const struct vault *v, const char *id, const struct bytes *sealed)
{
    const unsigned char *p = (const unsigned char *)sealed->data, *text = p + WAY_LEN + NONCE_LEN;
    unsigned char tag[TAG_LEN];
    struct bytes *out;
    EVP_CIPHER_CTX *c;
    size_t len;
    int n, end;
    bool good;

    if (sealed->len < EXTRA_LEN || p[0] != SEALED_BY_GCM)
        return NULL;
    len = sealed->len - EXTRA_LEN;
    memcpy(tag, text + len, TAG_LEN);
    out = bytes_alloc(len);
    out->secret = true;
    c = gcm(v, id, p + WAY_LEN, 0);
    good = EVP_CipherUpdate(c, (unsigned char *)out->data, &n, text, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1 &&
           EVP_CipherFinal_ex(c, (unsigned char *)out->data + n, &end) == 1;
    EVP_CIPHER_CTX_free(c);
    if (good)
        return out;
    bytes_unref(out);
    return NULL;
}
