/* SPDX-License-Identifier: Apache-2.0 */

/* Asks for everything that enumeration shows, by every call, with buffers of
 * exactly the right size on the heap, where valgrind and the address sanitizer
 * see each byte. Prints what it found.
 *
 *      walk PATH */

#include "harness.h"

/* Calls with 0, 1, 2, 4, ... bytes until there is room, then goes back to the
 * least size that has it. */
#define WITH_ROOM(call)                                                                                                                              \
        do {                                                                                                                                         \
                size_t low = 0, high = 1;                                                                                                            \
                                                                                                                                                     \
                for (;; low = high, high *= 2) {                                                                                                     \
                        buffer = realloc(buffer, high);                                                                                              \
                        size = high;                                                                                                                 \
                        s = (call);                                                                                                                  \
                        if (s != NSS_STATUS_TRYAGAIN)                                                                                                \
                                break;                                                                                                               \
                        if (e != ERANGE)                                                                                                             \
                                FAIL("errno %d", e);                                                                                                 \
                }                                                                                                                                    \
                while (s == NSS_STATUS_SUCCESS && low + 1 < high) {                                                                                  \
                        size = (low + high) / 2;                                                                                                     \
                        free(buffer);                                                                                                                \
                        buffer = malloc(size);                                                                                                       \
                        if ((call) == NSS_STATUS_SUCCESS)                                                                                            \
                                high = size;                                                                                                         \
                        else                                                                                                                         \
                                low = size;                                                                                                          \
                }                                                                                                                                    \
                size = high;                                                                                                                         \
                free(buffer);                                                                                                                        \
                buffer = malloc(size);                                                                                                               \
                s = (call);                                                                                                                          \
        } while (0)

static char *buffer;
static size_t size;
static unsigned long sum; /* of every byte that was returned */

static void add(const char *text) {
        for (; *text; text++)
                sum += (unsigned char) *text;
}

static void add_passwd(const struct passwd *p) {
        add(p->pw_name);
        add(p->pw_passwd);
        add(p->pw_gecos);
        add(p->pw_dir);
        add(p->pw_shell);
        sum += p->pw_uid + p->pw_gid;
}

static void add_group(const struct group *g) {
        add(g->gr_name);
        add(g->gr_passwd);
        for (char **m = g->gr_mem; *m; m++)
                add(*m);
        sum += g->gr_gid;
}

int main(int argc, char **argv) {
        unsigned long users = 0, groups = 0, gids = 0;
        char names[4096][64];
        enum nss_status s;
        struct passwd p;
        struct group g;
        int e = 0;

        if (argc != 2)
                return 2;
        lk_test_path = argv[1];
        lk_test_owner = getuid();
        lk_test_period_ms = 1;
        _nss_latchkey_setpwent(0);
        for (;;) {
                buffer = realloc(buffer, size = 4096);
                s = _nss_latchkey_getpwent_r(&p, buffer, size, &e);
                if (s != NSS_STATUS_SUCCESS)
                        break;
                if (users < 4096)
                        snprintf(names[users++], sizeof(names[0]), "%s", p.pw_name);
        }
        _nss_latchkey_endpwent();
        for (unsigned long i = 0; i < users; i++) {
                long start = 0, room = 1;
                gid_t *list = malloc(sizeof(gid_t));
                uid_t uid;

                WITH_ROOM(_nss_latchkey_getpwnam_r(names[i], &p, buffer, size, &e));
                if (s != NSS_STATUS_SUCCESS)
                        FAIL("%s: status %d", names[i], (int) s);
                add_passwd(&p);
                uid = p.pw_uid;
                WITH_ROOM(_nss_latchkey_getpwuid_r(uid, &p, buffer, size, &e));
                if (s != NSS_STATUS_SUCCESS || strcmp(p.pw_name, names[i]) != 0)
                        FAIL("%u: status %d", uid, (int) s);
                add_passwd(&p);
                if (_nss_latchkey_initgroups_dyn(names[i], p.pw_gid, &start, &room, &list, -1, &e) != NSS_STATUS_SUCCESS)
                        FAIL("%s has no groups", names[i]);
                for (long k = 0; k < start; k++) {
                        gids++;
                        WITH_ROOM(_nss_latchkey_getgrgid_r(list[k], &g, buffer, size, &e));
                        if (s == NSS_STATUS_SUCCESS)
                                add_group(&g);
                        else if (s != NSS_STATUS_NOTFOUND)
                                FAIL("%u: status %d", list[k], (int) s);
                }
                free(list);
        }
        _nss_latchkey_setgrent(0);
        for (;;) {
                buffer = realloc(buffer, size = 1 << 20);
                s = _nss_latchkey_getgrent_r(&g, buffer, size, &e);
                if (s != NSS_STATUS_SUCCESS)
                        break;
                groups++;
                add_group(&g);
                snprintf(names[0], sizeof(names[0]), "%s", g.gr_name);
                WITH_ROOM(_nss_latchkey_getgrnam_r(names[0], &g, buffer, size, &e));
                if (s != NSS_STATUS_SUCCESS)
                        FAIL("%s: status %d", names[0], (int) s);
                add_group(&g);
        }
        _nss_latchkey_endgrent();
        for (unsigned i = 0; i < 1100; i++) { /* names of every length, and none of ours */
                char *name = malloc(i + 1);

                memset(name, i % 2 ? 'X' : 0xc3, i);
                name[i] = '\0';
                if (_nss_latchkey_getpwnam_r(name, &p, buffer, size, &e) != NSS_STATUS_NOTFOUND)
                        FAIL("a name of %u bytes", i);
                free(name);
        }
        free(buffer);
        printf("%lu users, %lu groups, %lu gids, sum %lu\n", users, groups, gids, sum);
        return 0;
}
