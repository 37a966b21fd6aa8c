/* SPDX-License-Identifier: Apache-2.0 */

/* Checks on the snapshots of TestReplaced*: everything in one of them carries
 * its number, so that an answer put together from two of them shows. */

#pragma once

#include "harness.h"

#define ANCHOR_UID (BASE + 1)
#define CROWD_GID (BASE + 100)
#define LIST_GID (BASE + 1000)
#define LIST 50
#define CROWD 200

/* The number at the end of a text like "/home/17", or -1. */
static inline long number(const char *text, const char *before) {
        size_t n = strlen(before);
        char *end;
        long value;

        if (strncmp(text, before, n) != 0)
                return -1;
        value = strtol(text + n, &end, 10);
        return *end == '\0' ? value : -1;
}

static inline long check_passwd(const struct passwd *p) {
        long k = number(p->pw_gecos, "gecos ");

        if (k < 0 || p->pw_uid != ANCHOR_UID || p->pw_gid != CROWD_GID || strcmp(p->pw_name, "anchor") != 0 || strcmp(p->pw_passwd, "*") != 0 ||
            number(p->pw_dir, "/home/") != k || number(p->pw_shell, "/bin/") != k)
                FAIL("a user of no snapshot: %s:%s:%u:%u:%s:%s:%s", p->pw_name, p->pw_passwd, p->pw_uid, p->pw_gid, p->pw_gecos, p->pw_dir, p->pw_shell);
        return k;
}

static inline long check_group(const struct group *g) {
        long k = -1;
        unsigned n = 0;

        if (g->gr_gid != CROWD_GID || strcmp(g->gr_name, "crowd") != 0 || strcmp(g->gr_passwd, "*") != 0)
                FAIL("a group of no snapshot: %s:%s:%u", g->gr_name, g->gr_passwd, g->gr_gid);
        for (; g->gr_mem[n]; n++) {
                long of = n == 0 ? 0 : number(strchr(g->gr_mem[n], '-') ? strchr(g->gr_mem[n], '-') : "", "-");

                if (n == 0 ? strcmp(g->gr_mem[0], "anchor") != 0 : of < 0 || (k >= 0 && of != k))
                        FAIL("member %u of a group of no snapshot: %s, others of %ld", n, g->gr_mem[n], k);
                if (n > 0)
                        k = of;
        }
        if (n != CROWD + 1)
                FAIL("a group of %u members", n);
        return k;
}

static inline long check_list(const gid_t *gids, long n) {
        long k;

        if (n != LIST + 1 || gids[0] != CROWD_GID)
                FAIL("a list of %ld gids, the first %u", n, gids[0]);
        k = (long) (gids[1] - LIST_GID) / 64;
        for (long i = 1; i < n; i++)
                if (gids[i] != LIST_GID + (gid_t) k * 64 + (gid_t) i - 1)
                        FAIL("gid %ld of a list of no snapshot: %u, others of %ld", i, gids[i], k);
        return k;
}

/* One lookup of each kind in turn; returns the snapshot's number, or 0 for the
 * kinds that have none. */
static inline long look_once(unsigned long turn, char *buffer, size_t size, gid_t **gids, long *room) {
        struct passwd p;
        struct group g;
        enum nss_status s;
        long start = 0;
        int e = 0;

        errno = 4711; /* which a lookup that succeeds leaves alone */
        switch (turn % 6) {
        case 0:
                s = _nss_latchkey_getpwnam_r("ANCHOR", &p, buffer, size, &e);
                if (s == NSS_STATUS_SUCCESS && errno == 4711)
                        return check_passwd(&p);
                break;
        case 1:
                s = _nss_latchkey_getpwuid_r(ANCHOR_UID, &p, buffer, size, &e);
                if (s == NSS_STATUS_SUCCESS && errno == 4711)
                        return check_passwd(&p);
                break;
        case 2:
                s = _nss_latchkey_getgrnam_r("crowd", &g, buffer, size, &e);
                if (s == NSS_STATUS_SUCCESS && errno == 4711)
                        return check_group(&g);
                break;
        case 3:
                s = _nss_latchkey_getgrgid_r(CROWD_GID, &g, buffer, size, &e);
                if (s == NSS_STATUS_SUCCESS && errno == 4711)
                        return check_group(&g);
                break;
        case 4:
                s = _nss_latchkey_initgroups_dyn("anchor@contoso.test", CROWD_GID, &start, room, gids, -1, &e);
                if (s == NSS_STATUS_SUCCESS) {
                        memmove(*gids + 1, *gids, LIST * sizeof(gid_t));
                        (*gids)[0] = CROWD_GID;
                        return check_list(*gids, start + 1);
                }
                break;
        default:
                s = _nss_latchkey_getpwnam_r("nobody-here", &p, buffer, size, &e);
                if (s == NSS_STATUS_NOTFOUND && e == ENOENT && errno == 4711)
                        return 0;
                break;
        }
        FAIL("a lookup of kind %lu gave status %d, errno %d by pointer and %d by name", turn % 6, (int) s, e, errno);
}
