/* Two stores, the same random verbs, the same answers: what the simulations prove over the store in memory
 * holds over the one on SQLite. */
#include "store/store_test_util.h"

static uint64_t rng;

static unsigned pick(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 33) % n);
}

/* One verb with its arguments, drawn once and given to both. */
struct move {
    unsigned kind, a, b, c, d, e;
    int64_t at;
};

static const char *const tenants[] = {"t", "u"};
static const char *const clients[] = {"c1", "c2", NULL};
static const char *const windows[] = {"w1", "w2", NULL};
static const char *const servers[] = {"g1", "g2", NULL};
static const char *const kinds[] = {"image", "text"};
static const char *const contents[] = {"A", "B", "C", "D", "E", "F"};

#define SAY(...) buf_printf(out, __VA_ARGS__)

static void say_record(struct buf *out, const struct job_record *r)
{
    const struct job_summary *s = &r->s;

    SAY("[%s %d v%u f%u a%d u=%s s=%s %s %s %s seq%lld n%g %lld/%lld/%lld/%lld nb%lld c%d", s->id, s->state,
        s->version, s->flags, s->attempt, s->upstream_id, s->server ? s->server : "-", s->tenant,
        s->client_id ? s->client_id : "-", s->window_id ? s->window_id : "-", (long long)s->seq, s->number,
        (long long)s->created_at, (long long)s->started_at, (long long)s->finished_at, (long long)s->state_at,
        (long long)s->not_before, s->code);
    SAY(" %s %s %s", r->secrets ? r->secrets->data : "-", r->history ? r->history->data : "-",
        r->answer ? r->answer->data : "-");
    for (size_t i = 0; i < r->n_attempts; i++)
        SAY(" at%d:%s:%s:%lld:%d", r->attempts[i].n, r->attempts[i].upstream_id, r->attempts[i].server,
            (long long)r->attempts[i].ended_at, r->attempts[i].code);
    for (size_t i = 0; i < r->n_outputs; i++)
        SAY(" out%s%d.%d:%s:%s", r->outputs[i].gone ? "(gone)" : "", r->outputs[i].attempt, r->outputs[i].n,
            r->outputs[i].filename, (const char *)r->outputs[i].blake3);
    SAY(" few%zu e%d", r->outputs_count, r->error.code);
    for (size_t i = 0; i < r->n_timeline; i++)
        SAY(" %lld=%d", (long long)r->timeline[i].at, r->timeline[i].state);
    for (size_t i = 0; i < r->n_inputs; i++)
        SAY(" in:%s:%s", r->inputs[i].name, (const char *)r->inputs[i].blake3);
    SAY("]");
}

static void say_file(struct buf *out, struct fx *f)
{
    SAY("%d", f->st);
    if (f->st == STORE_OK)
        SAY(" %s %lld %s|%s|%s job=%s server=%s at=%lld", (const char *)f->file.blake3,
            (long long)f->file.size, f->file_type, f->file_sub, f->file_name, f->file_job, f->file_server,
            (long long)f->file.at);
}

static void do_submit(struct fx *f, const struct move *m, struct buf *out)
{
    char id[16], key[16];
    struct bytes *g = bytes_new("g", 1), *a = bytes_new("<%NUMBER%>", 10), *s = bytes_new("s", 1);
    struct job_input in = {.name = "in"};
    struct store_event ev = {"state", "{}"};
    struct store_submit sub = {.id = id,
                               .tenant = tenants[m->b % 2],
                               .client_id = clients[m->c % 3],
                               .window_id = windows[m->d % 3],
                               .graph = g,
                               .answer = a,
                               .secrets = s,
                               .created_at = m->at,
                               .front = m->e % 5 == 0,
                               .inputs = &in,
                               .n_inputs = m->e % 3 == 0,
                               .events = &ev,
                               .n_events = 1,
                               .key = m->d % 4 ? NULL : key};

    snprintf(id, sizeof(id), "j%u", m->a % 60);
    snprintf(key, sizeof(key), "k%u", m->c % 20);
    sub.body_hash[0] = (uint8_t)(m->e % 2);
    hash_of(in.blake3, contents[m->c % 6]);
    CALL(f, submit, &sub, on_submitted);
    SAY("%d %lld %g %s", f->st, (long long)f->sub.seq, f->sub.number, f->sub_answer);
    if (f->st == STORE_EXISTS)
        SAY(" %s %d %d %s", f->sub.id, f->sub.same_body, f->sub.by_key, f->sub_tenant);
    bytes_unref(g);
    bytes_unref(a);
    bytes_unref(s);
}

static void do_step(struct fx *f, const struct move *m, struct buf *out)
{
    struct job_attempt a = {.upstream_id = "u",
                            .server = (char *)servers[m->c % 2],
                            .started_at = m->at,
                            .ended_at = m->at,
                            .code = JOB_STALLED};
    struct job_output o = {.filename = "x", .subfolder = "", .type = "output", .size = 1};
    struct job_error err = {.code = JOB_INTERRUPTED, .message = "m"};
    struct store_stray stray = {.server = "g1", .since = m->at};
    struct store_event ev = {"end", "{}"};
    struct bytes *h = bytes_new("h", 1);
    char id[16];
    struct store_step in = {.id = id,
                            .at = m->at,
                            .state = (enum job_state)(m->b % JOB_STATES),
                            .not_before = m->e,
                            .started = m->e % 2,
                            .events = &ev,
                            .n_events = m->e % 3};

    if (in.n_events > 1)
        in.n_events = 1;
    snprintf(id, sizeof(id), "j%u", m->a % 60);
    snprintf(stray.upstream_id, sizeof(stray.upstream_id), "u%u", m->e % 4);
    snprintf(stray.job, sizeof(stray.job), "%s", id);
    if (fx_get(f, id))
        in.version = f->rec->s.version - (m->d % 9 == 0);
    a.n = f->rec ? f->rec->s.attempt + (m->d % 3 ? 1 : 0) : 1;
    o.attempt = a.n;
    o.kind = (char *)kinds[m->c % 2];
    if (m->e % 4 == 0)
        in.begin = &a;
    if (m->e % 4 == 1 && f->rec && f->rec->s.attempt) {
        a.n = f->rec->s.attempt;
        in.end = &a;
    }
    if (in.state == JOB_SUCCEEDED || m->d % 17 == 0) {
        hash_of(o.blake3, contents[m->c % 6]);
        in.outputs = &o;
        in.n_outputs = 1;
        in.history = h;
    }
    in.flags = in.state == JOB_CANCELED && m->d % 2 ? JOB_F_NO_HISTORY : 0;
    in.error = in.state == JOB_FAILED ? &err : NULL;
    in.stray = m->d % 7 == 0 ? &stray : NULL;
    SAY("%d", CALL(f, step, &in, on_done));
    bytes_unref(h);
}

static void do_list(struct fx *f, const struct move *m, struct buf *out)
{
    struct store_filter l = {.tenant = m->a % 3 ? tenants[m->a % 2] : NULL,
                             .client_id = m->b % 2 ? clients[m->b % 3] : NULL,
                             .window_id = m->c % 3 ? NULL : windows[m->c % 2],
                             .server = m->d % 3 ? NULL : servers[m->d % 2],
                             .states = m->e % 2 ? m->e % 256 : 0,
                             .in_history = m->d % 2,
                             .oldest_first = m->c % 2,
                             .offset = m->e % 3,
                             .limit = 1 + (int)(m->a % 7),
                             .kind = m->a % 4 ? NULL : kinds[m->b % 2],
                             .look = 1 + (int)(m->b % 9),
                             .parts = m->c % 4 ? ~0u : JOB_PART_FEW | JOB_PART_ERROR};

    for (int turns = 0; turns < 4; turns++) {
        CALL(f, list, &l, on_list);
        for (size_t i = 0; i < f->list.n; i++)
            say_record(out, f->list.rows[i]);
        SAY(" next=%lld;", (long long)f->list.next);
        l.after = f->list.next;
        l.offset = 0;
        if (l.after == 0)
            break;
    }
}

static void do_input(struct fx *f, const struct move *m, struct buf *out)
{
    struct store_input in = {.tenant = tenants[m->a % 2],
                             .type = "input",
                             .subfolder = m->b % 2 ? "s" : "",
                             .name = m->c % 2 ? "cat.png" : "dog",
                             .at = m->at,
                             .overwrite = m->d % 5 == 0};

    hash_of(in.blake3, contents[m->e % 6]);
    CALL(f, input_put, &in, on_file);
    say_file(out, f);
    buf_puts(out, " / ");
    CALL(f, input_list, tenants[m->a % 2], NULL, on_files);
    SAY("%s", buf_str(&f->text));
}

static void do_output(struct fx *f, const struct move *m, struct buf *out)
{
    char id[16];
    struct store_output_key k = {.tenant = tenants[m->b % 2],
                                 .job = m->c % 4 ? id : NULL,
                                 .type = "output",
                                 .subfolder = "",
                                 .filename = "x",
                                 .attempt = (int)(m->d % 3)};

    snprintf(id, sizeof(id), "j%u", m->a % 60);
    if (k.job == NULL)
        k.attempt = 0;
    CALL(f, output_find, &k, on_file);
    if (k.job == NULL) { /* which of the jobs that have this one content is open */
        f->file_job[0] = f->file_server[0] = '\0';
        f->file.at = 0;
    }
    say_file(out, f);
}

static void do_user(struct fx *f, const struct move *m, struct buf *out)
{
    static const char *const paths[] = {"a", "a/b", "a/c", "a/c/d", "e/f", "e", "g/h/i", "g", "g0"};
    const char *tenant = tenants[m->a % 2], *path = paths[m->b % ARRAY_LEN(paths)],
               *to = paths[m->c % ARRAY_LEN(paths)];
    uint8_t was[BLAKE3_LEN];
    struct store_user_put in = {.tenant = tenant, .area = "data", .path = path, .at = m->at, .files_max = 5};

    hash_of(in.blake3, contents[m->d % 6]);
    hash_of(was, contents[m->c % 6]);
    in.when = m->e % 4 == 0 ? STORE_USER_NEW : m->e % 4 == 1 ? STORE_USER_SAME : STORE_USER_ANY;
    in.was = m->c % 2 ? was : NULL;
    switch (m->e % 6) {
    case 0: CALL(f, user_move, tenant, "data", path, to, m->d % 2, on_file); break;
    case 1: CALL(f, user_remove, tenant, "data", path, on_done); break;
    case 2: CALL(f, user_find, tenant, "data", path, on_file); break;
    default: CALL(f, user_put, &in, on_file);
    }
    SAY("%d %s %lld %lld/", f->st, f->st == STORE_OK && m->e % 6 != 1 ? f->file_name : "",
        (long long)f->file.created, (long long)f->file.at);
    CALL(f, user_list, tenant, "data", m->c % 3 ? "" : to, on_user_files);
    SAY("%d %s", f->st, buf_str(&f->text));
    f->file = (struct store_file){0};
}

static void do_trim(struct fx *f, const struct move *m, struct buf *out)
{
    struct store_keep k = {.now = m->at,
                           .finished_ms = m->a % 3 ? 0 : 300,
                           .outputs_ms = m->b % 3 ? 0 : 200,
                           .events_ms = m->c % 3 ? 0 : 400,
                           .count = m->d % 3 ? 0 : 12,
                           .size = m->e % 3 ? 0 : 300,
                           .max_rows = 1 + (int)(m->a % 5)};

    CALL(f, trim, &k, on_trimmed);
    SAY("%u %u %u %d", f->trim.jobs, f->trim.outputs, f->trim.events, f->trim.more);
}

static void do_move(struct fx *f, const struct move *m, struct buf *out)
{
    struct store_stats st;
    uint8_t h[BLAKE3_LEN];
    char id[16];

    snprintf(id, sizeof(id), "j%u", m->a % 60);
    hash_of(h, contents[m->a % 6]);
    switch (m->kind % 18) {
    case 16:
    case 17: do_user(f, m, out); break;
    case 0:
    case 1: do_submit(f, m, out); break;
    case 2:
    case 3:
    case 4:
    case 5: do_step(f, m, out); break;
    case 6: do_list(f, m, out); break;
    case 7: do_input(f, m, out); break;
    case 8:
        CALL(f, blob_pin, h, 50 + m->a % 6, on_pin);
        SAY("%d %lld %d", f->st, (long long)f->pin.pin, f->pin.known);
        break;
    case 9: SAY("%d", CALL(f, blob_unpin, (int64_t)(m->b % 200), on_done)); break;
    case 10: do_output(f, m, out); break;
    case 11:
        if (m->b % 3 == 0)
            do_trim(f, m, out);
        break;
    case 12:
        if (m->b % 8 == 0)
            SAY("%d", CALL(f, hide, tenants[m->c % 2], m->d % 4 ? id : NULL, on_done));
        break;
    case 13:
        CALL(f, events, (int64_t)m->b, m->c % 2 ? id : NULL, 5, on_events);
        SAY("%s oldest=%lld newest=%lld", buf_str(&f->text), (long long)f->oldest, (long long)f->newest);
        break;
    case 14:
        CALL0(f, unfinished, on_summaries);
        SAY("%s ", buf_str(&f->text));
        CALL0(f, strays, on_strays);
        SAY("%s ", buf_str(&f->text));
        if (m->b % 4 == 0)
            SAY("%d", CALL(f, stray_done, "g1", "u1", on_done));
        break;
    case 15:
        if (m->b % 20 == 0) {
            fx_reopen(f);
        } else if (m->b % 2) { /* both to the end: what is doomed when differs, what is removed does not */
            unsigned removed = 0;

            do {
                CALL(f, blob_collect, m->at, 0, 3, NULL, NULL, on_collected);
                removed += f->col.removed;
            } while (f->col.more);
            store_stats(f->s, &st);
            SAY("%u removed, %lld bytes, %lld finished", removed, (long long)st.blob_bytes,
                (long long)st.finished);
            for (int k = 0; k < JOB_STATES; k++)
                SAY(" %lld", (long long)st.ended[k]);
        } else {
            CALL(f, get, id, ~0u, on_record);
            if (f->rec)
                say_record(out, f->rec);
        }
        break;
    }
}

/* Somebody polls some of the jobs all the time, and what was read before must not come back. */
static unsigned poll(struct fx *f, const struct move *m, struct buf *out)
{
    static const uint32_t parts[] = {JOB_PART_RECORD, JOB_PART_GRAPH | JOB_PART_HISTORY,
                                     JOB_PART_FEW | JOB_PART_ERROR, JOB_PART_INPUTS | JOB_PART_ANSWER};
    char id[16];

    for (unsigned i = 0; i < 6; i++) {
        snprintf(id, sizeof(id), "j%u", i < 5 ? i * 12 : m->a % 60);
        CALL(f, get, id, parts[m->e % 4], on_record);
        if (f->rec)
            say_record(out, f->rec);
    }
    return 6;
}

static void same_answers(void **state)
{
    struct buf a = BUF_INIT, b = BUF_INIT;
    unsigned said = 0, polled = 0;
    uint64_t reads = 0;

    (void)state;
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct fx mem, sql;

        rng = seed * 0x9e3779b97f4a7c15u;
        fx_open(&mem, false);
        fx_open(&sql, true);
        for (int i = 0; i < 700; i++) {
            struct move m = {pick(18), pick(1000), pick(1000), pick(1000), pick(1000), pick(1000), 1000 + i};

            buf_clear(&a);
            buf_clear(&b);
            struct store_stats before, after;

            do_move(&mem, &m, &a);
            do_move(&sql, &m, &b);
            poll(&mem, &m, &a);
            store_stats(sql.s, &before);
            polled += poll(&sql, &m, &b);
            store_stats(sql.s, &after);
            reads += after.reads - before.reads;
            if (strcmp(buf_str(&a), buf_str(&b)) != 0) {
                size_t at = 0;

                while (a.data[at] == b.data[at])
                    at++;
                at = at > 200 ? at - 200 : 0;
                fail_msg("seed %u move %d kind %u\n mem: %.400s\n sql: %.400s", seed, i, m.kind, a.data + at,
                         b.data + at);
            }
            said += a.len > 10;
        }
        fx_close(&mem);
        fx_close(&sql);
    }
    assert_true(said > 1000);
    print_message("%u records polled, %llu of them read\n", polled, (unsigned long long)reads);
    assert_true(reads < polled * 9 / 10); /* the others were known */
    buf_free(&a);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_answers)};

    if (getenv("LOG") == NULL)
        log_set_sink(fx_no_log, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
