/* One parser for HTTP/1 messages of both directions. Private to http/ (server.c and client.c).
 *
 * Two locks on one door. A small scanner of our own walks over every byte that is not body: it demands CRLF,
 * tokens, one space, no folding, and holds the limits, all of which llhttp 8.1 takes more lightly
 * (design.md §6). What it lets pass is then given to llhttp, which frames the body. Both must agree on
 * method, version, length and on where the message ends, or it is refused: there is nothing left that two
 * readers could understand in two ways.
 *
 * Pull style: the caller offers bytes and takes one event at a time, so it stops wherever it likes (after the
 * head, between two pieces of a body, after the message: the next, pipelined one is not touched). The same
 * bytes give the same events however they are cut, but for the cuts inside a body. No I/O, no clock. */
#ifndef HTTP_PARSE_H
#define HTTP_PARSE_H

#include "http/http.h"

struct http_parser;

enum http_parse_kind { HTTP_PARSE_REQUEST, HTTP_PARSE_RESPONSE };

enum http_parse_event {
    HTTP_PARSE_MORE, /* all input used; the message goes on */
    HTTP_PARSE_HEAD, /* the head is complete: http_parser_head() */
    HTTP_PARSE_BODY, /* a piece of the body: data and len, pointing into the input. Never empty */
    HTTP_PARSE_END,  /* the message is complete; http_parser_next() before more is offered */
    HTTP_PARSE_ERROR /* refused: http_parser_status(), http_parser_reason(). Final */
};

/* What a message may cost; sizes in bytes. */
struct http_parse_limits {
    size_t target;    /* 414 beyond (requests) */
    size_t head;      /* 431 beyond; trailers have the same limit, for themselves */
    unsigned headers; /* 431 beyond */
};

struct http_head {
    enum http_method method;
    const char *method_name;
    const char *target; /* origin-form: absolute-form has been reduced; "*" for OPTIONS * */
    const char *path;   /* target without the query */
    const char *query;  /* after '?', "" if none */
    int status;         /* responses */
    const char *reason;
    int minor; /* HTTP/1.minor: 0 or 1 */
    struct http_headers headers;
    int64_t length; /* of the body; -1: chunked, or until the end of the connection */
    bool chunked;
    bool until_eof;  /* responses: the end of the connection ends the body */
    bool keep_alive; /* by version and Connection field (and for responses: not until_eof) */
};

struct http_parser *http_parser_new(enum http_parse_kind kind, const struct http_parse_limits *lim);
void http_parser_free(struct http_parser **p);

/* Offer n bytes at in; *used says how many were consumed (fewer when an event stopped it). Call again with
 * the rest until MORE, END or ERROR. After HEAD and the last BODY also with n == 0: END may be due without a
 * byte. */
enum http_parse_event http_parser_step(struct http_parser *p, const char *in, size_t n, size_t *used,
                                       const char **data, size_t *len);
/* The peer has ended its direction: END if that completes the message, MORE if none had begun, else ERROR. */
enum http_parse_event http_parser_eof(struct http_parser *p);
/* Forget the message, ready for the next one. Frees the head: an idle parser holds a few hundred bytes. */
void http_parser_next(struct http_parser *p);
/* The coming response answers a HEAD: it has no body whatever its fields say. Before its head is complete;
 * stays for 1xx and the final response, until the next http_parser_no_body(). */
void http_parser_no_body(struct http_parser *p, bool on);

/* Valid from HEAD until http_parser_next() or _free(). After ERROR inside a head: NULL. */
const struct http_head *http_parser_head(const struct http_parser *p);
/* Has a byte of a message been consumed (blank lines before a request count)? */
bool http_parser_begun(const struct http_parser *p);
/* After ERROR. status: 400, 414, 431, 501 or 505 for requests; always 400 for responses. */
int http_parser_status(const struct http_parser *p);
const char *http_parser_reason(const struct http_parser *p); /* one of a fixed set of texts, for the log */

#endif
