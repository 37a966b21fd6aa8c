/* SPDX-License-Identifier: Apache-2.0 */

/* The group database, and the groups of one user. Every string that is returned
 * lies in the caller's buffer. */

#include <grp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

LK_PUBLIC enum nss_status _nss_latchkey_getgrnam_r(const char *name, struct group *grp, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_getgrgid_r(gid_t gid, struct group *grp, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_setgrent(int stayopen);
LK_PUBLIC enum nss_status _nss_latchkey_getgrent_r(struct group *grp, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_endgrent(void);
LK_PUBLIC enum nss_status _nss_latchkey_initgroups_dyn(const char *name, gid_t group, long *start, long *size, gid_t **groupsp, long limit, int *errnop);

/* As in passwd.c, by gid. */
#define AT_START UINT64_C(0)
#define AT_END UINT64_C(1)
#define AFTER(id) ((uint64_t) (id) << 32 | 2)

static _Atomic uint64_t position;

/* The buffer takes an array of pointers, where the next address for one is, and
 * behind it name, "*" and members as they are in the file. */
static enum lk_outcome pack(const struct lk_group *g, struct group *ret, char *buffer, size_t buflen) {
        size_t skip = -(uintptr_t) buffer % _Alignof(char *);
        uint64_t array = (g->row.member_count + UINT64_C(1)) * sizeof(char *);
        uint32_t size = g->row.strings_size;
        bool strays = false;
        char **members;
        char *strings;

        if (buflen < skip || buflen - skip < array || buflen - skip - array < size)
                return LK_SMALL;
        members = (char **) (void *) (buffer + skip);
        strings = buffer + skip + array;
        memcpy(strings, g->strings, size);
        for (uint32_t i = 0; i < g->row.member_count; i++) {
                uint32_t place = lk_load32(g->places + 4 * (size_t) i);

                strays |= place >= size;
                members[i] = strings + (place < size ? place : 0);
        }
        members[g->row.member_count] = NULL;
        if (strays || strings[g->row.name_size] != '\0' || strings[g->row.name_size + sizeof("*")] != '\0' || strings[size - 1] != '\0')
                return LK_BROKEN;
        ret->gr_name = strings;
        ret->gr_passwd = strings + g->row.name_size + 1;
        ret->gr_gid = g->row.gid;
        ret->gr_mem = members;
        return LK_FOUND;
}

enum nss_status _nss_latchkey_getgrnam_r(const char *name, struct group *grp, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;
        struct lk_key key;

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_key_init(&key, name);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_group g;
                enum lk_outcome r = lk_group_by_name(&s.view, &key, &g);

                if (r == LK_FOUND)
                        r = pack(&g, grp, buffer, buflen);
                if (lk_leave(&s))
                        return lk_answer(r, errnop);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}

enum nss_status _nss_latchkey_getgrgid_r(gid_t gid, struct group *grp, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_group g;
                enum lk_outcome r = lk_group_by_gid(&s.view, gid, &g);

                if (r == LK_FOUND)
                        r = pack(&g, grp, buffer, buflen);
                if (lk_leave(&s))
                        return lk_answer(r, errnop);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}

enum nss_status _nss_latchkey_setgrent(int stayopen) {
        (void) stayopen;
        atomic_store(&position, AT_START);
        return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_latchkey_endgrent(void) {
        atomic_store(&position, AT_START);
        return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_latchkey_getgrent_r(struct group *grp, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;
        uint64_t from = atomic_load(&position);

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_group g;
                enum lk_outcome r = from == AT_END ? LK_ABSENT : lk_group_after(&s.view, from == AT_START, (uint32_t) (from >> 32), &g);
                uint64_t to = r == LK_FOUND ? AFTER(g.row.gid) : AT_END;

                if (r == LK_FOUND)
                        r = pack(&g, grp, buffer, buflen);
                if (!lk_leave(&s))
                        continue;
                if (r != LK_FOUND && r != LK_ABSENT)
                        return lk_answer(r, errnop);
                if (atomic_compare_exchange_strong(&position, &from, to))
                        return lk_answer(r, errnop);
                lk_begin(&s);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}

/* Makes room for count more gids behind *start, as far as limit allows, and
 * returns how many there is room for; 0 is no memory. */
static long make_room(long count, const long *start, long *size, gid_t **groupsp, long limit) {
        long want = *start + count;

        if (limit > 0 && want > limit)
                want = limit;
        if (want > *size) {
                long grown = want > 2 * *size ? want : 2 * *size;
                gid_t *more;

                if (limit > 0 && grown > limit)
                        grown = limit;
                more = realloc(*groupsp, (size_t) grown * sizeof(gid_t));
                if (!more)
                        return 0;
                *groupsp = more;
                *size = grown;
        }
        return want - *start;
}

/* Copies the user's gids behind *start without moving it; *ret_count of them. A
 * forbidden gid spoils the whole list: better no answer than half of one. */
static enum lk_outcome pack_gids(const struct lk_view *v, const struct lk_user *u, gid_t group, const long *start, long *size, gid_t **groupsp,
                long limit, long *ret_count) {
        /* The list begins with the primary gid, which the caller has already
         * when it is the one that they named. */
        uint32_t first = group == u->row.gid ? 1 : 0;
        uint32_t low = v->allowed[0].low, span = v->allowed[0].high - v->allowed[0].low;
        long count = (long) u->row.gid_count - first;
        bool strays = false;
        gid_t *to;

        *ret_count = 0;
        if (count == 0 || (limit > 0 && *start >= limit))
                return LK_FOUND;
        count = make_room(count, start, size, groupsp, limit);
        if (count == 0)
                return LK_NO_MEMORY;
        to = *groupsp + *start;
        for (long i = 0; i < count; i++) {
                uint32_t gid = lk_load32(u->gids + 4 * (first + (size_t) i));

                to[i] = gid;
                strays |= gid - low > span;
        }
        if (strays) /* outside the first range, and so to be compared with all */
                for (long i = 0; i < count; i++)
                        if (!lk_allowed(v, to[i]))
                                return LK_BROKEN;
        *ret_count = count;
        return LK_FOUND;
}

/* A caller who names a group has a passwd entry with it. Where that is not the
 * user's primary group, the entry is not ours: it is a local namesake, and must
 * not inherit a domain user's groups. */
enum nss_status _nss_latchkey_initgroups_dyn(const char *name, gid_t group, long *start, long *size, gid_t **groupsp, long limit, int *errnop) {
        struct lk_session s;
        struct lk_key key;

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_key_init(&key, name);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_user u;
                long count = 0;
                enum lk_outcome r = lk_user_by_name(&s.view, &key, &u);

                if (r == LK_FOUND && group != (gid_t) -1 && group != u.row.gid)
                        r = LK_ABSENT;
                if (r == LK_FOUND)
                        r = pack_gids(&s.view, &u, group, start, size, groupsp, limit, &count);
                if (!lk_leave(&s))
                        continue;
                if (r == LK_FOUND)
                        *start += count;
                return lk_answer(r, errnop);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}
