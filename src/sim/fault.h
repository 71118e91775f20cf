/* Faults to order: what goes wrong on a simulated server, and when.
 *
 *   NAME[=TIME][:COUNT][@NTH][%PERCENT]      history-lag=300ms  view-404:2  oom@3  reject%25
 * die-after-start=2s
 *
 * An occasion is a prompt (or a request, or a start) that the fault could strike. :COUNT strikes that often
 * and no more,
 * @NTH only on that occasion (counted from 1), %PERCENT with that chance, drawn from the seed. Pure; one
 * thread. */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum fault_kind {
    FAULT_START_DELAY,
    FAULT_REJECT,
    FAULT_REJECT_500,
    FAULT_PROMPT_LOST,
    FAULT_PROMPT_SLOW_ANSWER,
    FAULT_SLOW_PROMPT,
    FAULT_OOM,
    FAULT_CUDA,
    FAULT_NODE_ERROR,
    FAULT_HANG,
    FAULT_DIE_AFTER_START,
    FAULT_DIE_AFTER_END,
    FAULT_WS_SILENT,
    FAULT_WS_DROP,
    FAULT_HISTORY_LAG,
    FAULT_HISTORY_500,
    FAULT_HISTORY_EMPTY,
    FAULT_HISTORY_MISSING,
    FAULT_VIEW_404,
    FAULT_VIEW_500,
    FAULT_VIEW_TRUNCATE,
    FAULT_VIEW_SLOW,
    FAULT_OBJECT_INFO_SLOW,
    FAULT_KINDS
};

struct fault {
    enum fault_kind kind;
    int64_t ms;
    long count; /* strikes left; -1 no limit */
    long nth;   /* 0: any */
    double percent;
    long occasions;
};
struct faults {
    struct fault *v;
    size_t n;
    uint64_t random;
};

void faults_init(struct faults *f, uint64_t seed);
void faults_fini(struct faults *f);
int faults_add(struct faults *f, const char *spec, struct err *e) MUST_CHECK;
/* An occasion for this kind: does it strike? *ms (may be NULL): its time. */
bool faults_strike(struct faults *f, enum fault_kind kind, int64_t *ms);
/* One occasion for several kinds of which only one can show: the first of kinds that strikes, FAULT_KINDS if none does.
 * A :COUNT is used up only by the one that shows. */
enum fault_kind faults_choose(struct faults *f, const enum fault_kind *kinds, size_t n);
/* The table with explanations, for `--fault help`. */
void faults_help(FILE *out);
/* "300ms" "2s" "1m"; a bare number is milliseconds. -1 if it is none of these. */
int64_t fault_time(const char *s, const char **end);

#endif
