#include "store/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int s = 0; s < JOB_STATES; s++)
        assert_int_equal(job_state_parse(job_state_name((enum job_state)s)), s);
    for (int c = 0; c < JOB_CODES; c++)
        assert_int_equal(job_code_parse(job_code_name((enum job_code)c)), c);
    assert_int_equal(job_state_parse("Queued"), -1);
    assert_int_equal(job_code_parse(""), -1);
    assert_string_equal(job_state_name((enum job_state)99), "unknown");
    assert_string_equal(job_code_name((enum job_code) - 1), "unknown");
}

/* The numbers stand in databases: this list is the one that was released. */
static void numbers_stay(void **state)
{
    static const char *const states[] = {"queued",    "dispatching", "running",  "collecting",
                                         "succeeded", "failed",      "canceled", "expired"};
    static const char *const codes[] = {"ok",
                                        "no_capable_server",
                                        "validation_failed",
                                        "server_rejected",
                                        "execution_error",
                                        "out_of_memory",
                                        "interrupted",
                                        "server_lost",
                                        "server_restarted",
                                        "stalled",
                                        "dispatch_failed",
                                        "history_unavailable",
                                        "history_missing",
                                        "output_unavailable",
                                        "output_unrecognised",
                                        "storage_failed",
                                        "expired",
                                        "canceled"};

    (void)state;
    for (int s = 0; s < JOB_STATES; s++)
        assert_string_equal(job_state_name((enum job_state)s), states[s]);
    for (int c = 0; c < JOB_CODES; c++)
        assert_string_equal(job_code_name((enum job_code)c), codes[c]);
    for (int s = 0; s < JOB_STATES; s++)
        assert_int_equal(!!(JOB_STATES_LIVE & JOB_STATE_BIT(s)), JOB_STATE_LIVE(s));
    assert_int_equal(JOB_STATES_LIVE ^ JOB_STATES_ENDED, (1u << JOB_STATES) - 1);
}

static void hex(void **state)
{
    uint8_t h[BLAKE3_LEN], back[BLAKE3_LEN];
    char s[BLAKE3_HEX], bad[BLAKE3_HEX + 1];

    (void)state;
    for (int i = 0; i < BLAKE3_LEN; i++)
        h[i] = (uint8_t)(i * 37 + 1);
    blake3_hex(h, s);
    assert_int_equal(strlen(s), 64);
    assert_true(blake3_unhex(s, back));
    assert_memory_equal(h, back, BLAKE3_LEN);
    for (int i = 0; i < 64; i++) {
        static const char wrong[] = {'g', 'A', '/', ':', '`', ' ', '\0'};

        for (size_t k = 0; k < sizeof(wrong); k++) {
            memcpy(bad, s, BLAKE3_HEX);
            bad[i] = wrong[k];
            assert_false(blake3_unhex(bad, back));
        }
    }
    memcpy(bad, s, BLAKE3_HEX);
    bad[64] = '0'; /* one digit too many */
    bad[65] = '\0';
    assert_false(blake3_unhex(bad, back));
    assert_false(blake3_unhex("", back));
}

static void copies_are_deep_and_partial(void **state)
{
    struct job_attempt a = {.n = 1, .server = "g", .message = "m"};
    struct job_output o = {.node_id = "9", .filename = "x"};
    struct job_note t = {5, JOB_RUNNING, "note"};
    struct job_input i = {.name = "in"};
    struct job_record from = {.s = {.id = "j", .tenant = "t", .client_id = "c", .server = "g"},
                              .retry_of = "r",
                              .graph = bytes_new("g", 1),
                              .history = bytes_new("h", 1),
                              .secrets = bytes_new("s", 1),
                              .error = {.code = JOB_STALLED, .message = "e"},
                              .attempts = &a,
                              .n_attempts = 1,
                              .outputs = &o,
                              .n_outputs = 1,
                              .timeline = &t,
                              .n_timeline = 1,
                              .inputs = &i,
                              .n_inputs = 1};
    struct job_record *all = job_record_copy(&from, ~0u), *none = job_record_copy(&from, 0);

    (void)state;
    assert_string_equal(all->s.tenant, "t");
    assert_ptr_not_equal(all->s.tenant, from.s.tenant);
    assert_string_equal(all->attempts[0].message, "m");
    assert_string_equal(all->outputs[0].filename, "x");
    assert_string_equal(all->timeline[0].note, "note");
    assert_string_equal(all->inputs[0].name, "in");
    assert_string_equal(all->error.message, "e");
    assert_ptr_equal(all->graph, from.graph);
    assert_string_equal(none->retry_of, "r");
    assert_null(none->graph);
    assert_null(none->secrets);
    assert_int_equal(none->n_attempts + none->n_outputs + none->n_timeline + none->n_inputs, 0);
    assert_int_equal(none->error.code, JOB_OK);
    job_record_free(&all);
    assert_null(all);
    job_record_free(&all); /* nothing */
    job_record_free(&none);
    bytes_unref(from.graph);
    bytes_unref(from.history);
    bytes_unref(from.secrets);
}

/* What stays in memory for every unfinished job: 512 bytes with strings of a usual length. */
static void summaries_are_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct job_summary) <= 280);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(numbers_stay),
        cmocka_unit_test(hex),
        cmocka_unit_test(copies_are_deep_and_partial),
        cmocka_unit_test(summaries_are_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
