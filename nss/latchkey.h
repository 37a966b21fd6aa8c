/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of the module share. Nothing of it is visible outside: the
 * module exports its NSS entry points and nothing else (latchkey.map).
 *
 * Three layers, one direction: passwd.c and group.c (entry points, packing) ask
 * find.c (keys, indexes, rows), which works on a view that mapping.c provides
 * (which file, is it ours, is it still the current one).
 *
 * Inside, a function says how it went by an lk_outcome; lk_answer() alone turns
 * that into what NSS wants to hear. The module never logs, never aborts, and
 * leaves errno as it was except through errnop. */

#pragma once

#include <nss.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

#define LK_PUBLIC __attribute__((visibility("default")))

enum lk_outcome {
        LK_FOUND,
        LK_ABSENT,      /* the snapshot is complete, and it is not there */
        LK_SMALL,       /* the caller's buffer is too small */
        LK_NO_MEMORY,
        LK_BROKEN,      /* the snapshot contradicts itself, or has an id that no snapshot may have */
        LK_UNAVAILABLE, /* there is no snapshot to ask */
};

/* One kind of row: where its indexes and rows are. Offsets are from the start
 * of the file and fit, for LK_MAX_SIZE does. */
struct lk_side {
        uint32_t names_at;
        uint32_t names_slots; /* all, beyond the last home as well */
        uint32_t names_homes;
        uint32_t ids_at;
        uint32_t ids_slots;
        uint32_t ids_homes;
        uint32_t rows_at;
        uint32_t rows_end;
};

/* What a lookup knows of the snapshot before it looks: everything was checked
 * against the size of the file by lk_view_init(), and is never read from the
 * file again. */
struct lk_view {
        const unsigned char *base;
        uint64_t seed[2];
        struct lk_side users;
        struct lk_side groups;
        uint32_t aliases_at;
        uint32_t aliases_end;
        uint32_t size;
        uint32_t allowed_count;
        struct lk_range allowed[LK_MAX_ALLOWED]; /* the ranges without reserved ids */
};

/* A name as asked, lowered, and followed by zeroes to a multiple of 8 bytes. */
struct lk_key {
        uint32_t size; /* 0: nobody can have this name */
        union {
                unsigned char bytes[LK_MAX_KEY + 8];
                uint64_t words[LK_MAX_KEY / 8 + 1];
        };
};

/* A row of a user within its bounds. The pointers lead into the file. */
struct lk_user {
        struct lk_user_row row;
        const unsigned char *strings; /* name, "*", gecos, dir, shell */
        uint32_t strings_size;
        const unsigned char *gids;
};

/* A row of a group within its bounds. The pointers lead into the file. */
struct lk_group {
        struct lk_group_row row;
        const unsigned char *strings; /* name, "*", members */
        const unsigned char *places;  /* where each member begins in strings */
};

/* One lookup. It lives on the caller's stack. */
struct lk_session {
        struct lk_view view;
        uint64_t current; /* which mapping the view is of */
        unsigned tries;
        int cancel_state; /* to be restored with an own mapping */
        bool own;         /* the mapping is this session's own */
};

/* mapping.c: which snapshot to ask.
 *
 *         struct lk_session s;
 *
 *         lk_begin(&s);
 *         while (lk_enter(&s)) {
 *                 r = look into s.view and copy out what is there;
 *                 if (lk_leave(&s))
 *                         return r;
 *         }
 *         return LK_UNAVAILABLE;
 *
 * lk_enter() is false when there is nothing to ask. lk_leave() is false when the
 * snapshot was replaced in the meantime, so that what was copied may be of no
 * snapshot at all, and the lookup has to be done again. */
void lk_begin(struct lk_session *s);
bool lk_enter(struct lk_session *s);
bool lk_leave(struct lk_session *s);

/* view.c: whether the size bytes at base are a snapshot that may be asked:
 * LK_ABSENT when it is superseded, LK_BROKEN when it is no complete snapshot of
 * this version. Then *ret_view is not set. */
enum lk_outcome lk_view_init(struct lk_view *ret_view, const unsigned char *base, size_t size);
bool lk_allowed(const struct lk_view *v, uint32_t id);

/* key.c */
void lk_key_init(struct lk_key *ret_key, const char *name);
uint64_t lk_hash(const uint64_t seed[2], const uint64_t *words, uint32_t size);

/* find.c: rows by name, by id, and the one after an id in the order of ids. */
enum lk_outcome lk_user_by_name(const struct lk_view *v, const struct lk_key *key, struct lk_user *ret);
enum lk_outcome lk_user_by_uid(const struct lk_view *v, uint32_t uid, struct lk_user *ret);
enum lk_outcome lk_user_after(const struct lk_view *v, bool any, uint32_t uid, struct lk_user *ret);
enum lk_outcome lk_group_by_name(const struct lk_view *v, const struct lk_key *key, struct lk_group *ret);
enum lk_outcome lk_group_by_gid(const struct lk_view *v, uint32_t gid, struct lk_group *ret);
enum lk_outcome lk_group_after(const struct lk_view *v, bool any, uint32_t gid, struct lk_group *ret);

/* answer.c */
bool lk_excluded(void);
enum nss_status lk_answer(enum lk_outcome outcome, int *errnop);

/* Loads from the file. Each is done once: what was checked is what is used. */
static inline uint16_t lk_load16(const unsigned char *p) {
        return __atomic_load_n((const uint16_t *) (const void *) p, __ATOMIC_RELAXED);
}

static inline uint32_t lk_load32(const unsigned char *p) {
        return __atomic_load_n((const uint32_t *) (const void *) p, __ATOMIC_RELAXED);
}

#ifdef LATCHKEY_TEST
/* Test builds look elsewhere, for a file of another owner, and more often. The
 * module that is shipped has none of this. */
extern const char *lk_test_path;
extern uid_t lk_test_owner;
extern uint64_t lk_test_period_ms;
void lk_test_look(void); /* the next lookup looks at the path */
#endif
