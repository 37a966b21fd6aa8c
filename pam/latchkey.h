/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of the module share. Nothing of it is visible outside: the
 * module exports the six PAM entry points and nothing else (latchkey.map).
 *
 * Four layers, one direction: entry.c (PAM's entry points) asks local.c (is the
 * name one of this box?), talk.c (the conversation with the daemon and the user)
 * and ccache.c (tickets on their way to the user); talk.c speaks through door.c
 * (the socket) in the words of wire.c (bytes, no I/O).
 *
 * Inside, a function says how it went by an lk_result; verdict.c alone turns that
 * and the daemon's outcome into what PAM wants to hear. The module keeps no state
 * of its own: sshd authenticates in a child that is gone afterwards. No format
 * string ever sees a secret, and what held one is wiped before it is freed. */

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <security/pam_modules.h>

#define LK_PUBLIC __attribute__((visibility("default")))

/* In the test build a test may move a path; the shipped module reads no
 * variable of the environment. */
#ifdef LATCHKEY_TEST
const char *lk_setting(const char *name, const char *otherwise);
#define LK_SETTING(name, otherwise) lk_setting("LATCHKEY_TEST_" name, otherwise)
#else
#define LK_SETTING(name, otherwise) (otherwise)
#endif

enum lk_result {
        LK_OK,
        LK_UNAVAILABLE, /* nobody listens, or nothing came in time */
        LK_BROKEN,      /* what came is not the protocol, or the peer is not root */
        LK_NO_MEMORY,
        LK_CONVERSATION, /* the application would not ask the user */
        LK_LATER,        /* the application wants to be called again */
        LK_NO_PASSWORD,  /* use_first_pass, and there was none */
};

/* latchkey.v1.Purpose */
enum lk_purpose {
        LK_AUTHENTICATE = 1,
        LK_ACCOUNT = 2,
        LK_PASSWORD_CHECK = 3,
        LK_PASSWORD_CHANGE = 4,
};

/* latchkey.v1.Outcome */
enum lk_outcome {
        LK_UNSPECIFIED,
        LK_SUCCESS,
        LK_NOT_FOUND,
        LK_BAD_CREDENTIAL,
        LK_LOCKED,
        LK_DISABLED,
        LK_EXPIRED,
        LK_MUST_CHANGE,
        LK_DENIED,
        LK_UNREACHABLE,
        LK_MALFORMED,
        LK_CONFLICT,
        LK_EXHAUSTED,
        LK_INTERNAL,
};

/* latchkey.v1.Line.Kind */
enum lk_kind {
        LK_INFO = 1,
        LK_ERROR = 2,
        LK_ASK_SHOWN = 3,
        LK_ASK_HIDDEN = 4,
        LK_ASK_PASSWORD = 5,
        LK_ASK_CURRENT = 6,
        LK_ASK_NEW = 7,
};

#define LK_MAX_NAME 1024
#define LK_MAX_PUBLISHED 255
#define LK_MAX_ITEM 255
#define LK_MAX_REPLY 4096
#define LK_MAX_TEXT 4096
#define LK_MAX_LINES 16
#define LK_MAX_CCACHE (512U * 1024U)
#define LK_MAX_ANSWER (1024U * 1024U)

/* Bytes that belong to somebody else. */
struct lk_bytes {
        const unsigned char *at;
        size_t size;
};

/* What is to be sent: grows, and is wiped when it moves and when it is freed. */
struct lk_buffer {
        unsigned char *at;
        size_t size;
        size_t room;
        bool failed; /* out of memory: what is in it is not complete */
};

struct lk_line {
        enum lk_kind kind;
        struct lk_bytes text;
};

/* latchkey.v1.Turn. The pointers lead into the answer that it was read from. */
struct lk_turn {
        size_t count;
        struct lk_line lines[LK_MAX_LINES];
        bool done;
        enum lk_outcome outcome;
        struct lk_bytes name;
        uint32_t uid;
        uint32_t gid;
        struct lk_bytes ccache;
};

/* A ttrpc response without its frame. */
struct lk_answer {
        int32_t code; /* google.rpc.Code; 0: it went well */
        struct lk_bytes payload;
};

/* The end of a conversation, with memory of its own. lk_ending_free() wipes it. */
struct lk_ending {
        enum lk_outcome outcome;
        char name[LK_MAX_PUBLISHED + 1];
        uint32_t uid;
        uint32_t gid;
        unsigned char *ccache;
        size_t ccache_size;
};

/* The module's arguments. */
struct lk_options {
        bool use_first_pass;
        bool try_first_pass;
        bool use_authtok;
        bool silent;
};

/* wire.c: protobuf (the encoding page of protobuf.dev) and ttrpc's messages, as
 * far as shim.proto needs them. */
void lk_put_number(struct lk_buffer *b, unsigned field, uint64_t value);
void lk_put_bytes(struct lk_buffer *b, unsigned field, const void *at, size_t size);
void lk_buffer_free(struct lk_buffer *b);
bool lk_read_turn(struct lk_turn *ret, struct lk_bytes from);
bool lk_read_answer(struct lk_answer *ret, struct lk_bytes from);

/* door.c: one connection to the daemon. lk_door_close() may be called on one
 * that was never opened, if fd is -1. */
struct lk_door {
        int fd;
        uint32_t stream;
        unsigned char *answer; /* the last one */
        size_t answer_size;
};

enum lk_result lk_door_open(struct lk_door *d);
enum lk_result lk_door_call(struct lk_door *d, const char *method, const struct lk_buffer *payload, struct lk_bytes *ret);
void lk_door_close(struct lk_door *d);

/* local.c: whether the name is one of /etc/passwd itself. Negative: it could not
 * be found out. */
int lk_is_local(const char *name);

/* talk.c: one conversation, from Begin to Done. */
enum lk_result lk_talk(pam_handle_t *pamh, enum lk_purpose purpose, const char *name, const struct lk_options *o, struct lk_ending *ret);
void lk_ending_free(struct lk_ending *e);

/* verdict.c */
int lk_verdict_of_result(enum lk_purpose purpose, enum lk_result r);
int lk_verdict_of_outcome(enum lk_purpose purpose, enum lk_outcome outcome);

/* ccache.c: tickets on their way from authenticate to the user. */
bool lk_ccache_keep(pam_handle_t *pamh, const struct lk_ending *e);
void lk_ccache_settle(pam_handle_t *pamh, const char *name);
void lk_ccache_discard(pam_handle_t *pamh);
void lk_ccache_remove(pam_handle_t *pamh);
