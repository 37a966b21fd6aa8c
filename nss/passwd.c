/* SPDX-License-Identifier: Apache-2.0 */

/* The passwd database. Every string that is returned lies in the caller's
 * buffer. */

#include <pwd.h>
#include <stdatomic.h>
#include <string.h>

#include "latchkey.h"

LK_PUBLIC enum nss_status _nss_latchkey_getpwnam_r(const char *name, struct passwd *pwd, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_getpwuid_r(uid_t uid, struct passwd *pwd, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_setpwent(int stayopen);
LK_PUBLIC enum nss_status _nss_latchkey_getpwent_r(struct passwd *pwd, char *buffer, size_t buflen, int *errnop);
LK_PUBLIC enum nss_status _nss_latchkey_endpwent(void);

/* Where enumeration is: AT_START, AT_END, or the uid that was last returned.
 * A uid is all that is needed, for users are in the order of uids, and it means
 * the same in the next snapshot. */
#define AT_START UINT64_C(0)
#define AT_END UINT64_C(1)
#define AFTER(id) ((uint64_t) (id) << 32 | 2)

static _Atomic uint64_t position;

static enum lk_outcome pack(const struct lk_user *u, struct passwd *ret, char *buffer, size_t buflen) {
        size_t password = u->row.name_size + 1U;
        size_t gecos = password + sizeof("*");
        size_t dir = gecos + u->row.gecos_size + 1U;
        size_t shell = dir + u->row.dir_size + 1U;

        if (buflen < u->strings_size)
                return LK_SMALL;
        memcpy(buffer, u->strings, u->strings_size);
        if (buffer[password - 1] != '\0' || buffer[gecos - 1] != '\0' || buffer[dir - 1] != '\0' || buffer[shell - 1] != '\0' ||
            buffer[u->strings_size - 1] != '\0')
                return LK_BROKEN;
        ret->pw_name = buffer;
        ret->pw_passwd = buffer + password;
        ret->pw_uid = u->row.uid;
        ret->pw_gid = u->row.gid;
        ret->pw_gecos = buffer + gecos;
        ret->pw_dir = buffer + dir;
        ret->pw_shell = buffer + shell;
        return LK_FOUND;
}

enum nss_status _nss_latchkey_getpwnam_r(const char *name, struct passwd *pwd, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;
        struct lk_key key;

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_key_init(&key, name);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_user u;
                enum lk_outcome r = lk_user_by_name(&s.view, &key, &u);

                if (r == LK_FOUND)
                        r = pack(&u, pwd, buffer, buflen);
                if (lk_leave(&s))
                        return lk_answer(r, errnop);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}

enum nss_status _nss_latchkey_getpwuid_r(uid_t uid, struct passwd *pwd, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_user u;
                enum lk_outcome r = lk_user_by_uid(&s.view, uid, &u);

                if (r == LK_FOUND)
                        r = pack(&u, pwd, buffer, buflen);
                if (lk_leave(&s))
                        return lk_answer(r, errnop);
        }
        return lk_answer(LK_UNAVAILABLE, errnop);
}

enum nss_status _nss_latchkey_setpwent(int stayopen) {
        (void) stayopen;
        atomic_store(&position, AT_START);
        return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_latchkey_endpwent(void) {
        atomic_store(&position, AT_START);
        return NSS_STATUS_SUCCESS;
}

/* glibc holds a lock around these three. Whoever calls the module directly from
 * several threads gets every user once among them: a position is moved on by
 * the one that found it unmoved. */
enum nss_status _nss_latchkey_getpwent_r(struct passwd *pwd, char *buffer, size_t buflen, int *errnop) {
        struct lk_session s;
        uint64_t from = atomic_load(&position);

        if (lk_excluded())
                return lk_answer(LK_ABSENT, errnop);
        lk_begin(&s);
        while (lk_enter(&s)) {
                struct lk_user u;
                enum lk_outcome r = from == AT_END ? LK_ABSENT : lk_user_after(&s.view, from == AT_START, (uint32_t) (from >> 32), &u);
                uint64_t to = r == LK_FOUND ? AFTER(u.row.uid) : AT_END;

                if (r == LK_FOUND)
                        r = pack(&u, pwd, buffer, buflen);
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
