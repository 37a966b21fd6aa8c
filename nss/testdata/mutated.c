/* SPDX-License-Identifier: Apache-2.0 */

/* Snapshots with bytes changed, asked everything, on the heap: the address
 * sanitizer sees a read that is one byte beyond the file. It takes the place of
 * mapping.c, and leaves the rest of the module as it is.
 *
 *      mutated SNAPSHOT SECONDS SEED
 *
 * Prints how many snapshots there were, and how the lookups ended. */

#include <time.h>

#include "harness.h"

static unsigned char *file;
static size_t file_size;

const char *lk_test_path = "";
uid_t lk_test_owner;
uint64_t lk_test_period_ms;

void lk_begin(struct lk_session *s) {
        s->tries = 0;
}

bool lk_enter(struct lk_session *s) {
        return s->tries == 0 && lk_view_init(&s->view, file, file_size) == LK_FOUND;
}

bool lk_leave(struct lk_session *s) {
        s->tries++;
        return true;
}

static uint64_t state;

static uint64_t draw(void) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

/* A value that is likely to hurt in the place of an offset, a size or an id. */
static uint32_t nasty(uint32_t old) {
        static const uint32_t values[] = {0, 1, 2, 7, 8, 0x7f, 0xff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff, 27, 65534};

        switch (draw() % 6) {
        case 0:
                return values[draw() % (sizeof(values) / sizeof(values[0]))];
        case 1:
                return old + 1;
        case 2:
                return old - 1;
        case 3:
                return old ^ (UINT32_C(1) << draw() % 32);
        case 4:
                return (uint32_t) (file_size / 8) + (uint32_t) (draw() % 5) - 2;
        default:
                return (uint32_t) draw();
        }
}

static void seal(void) {
        union {
                struct lk_header h;
                uint64_t words[sizeof(struct lk_header) / 8];
        } u;

        memcpy(&u.h, file, sizeof(u.h));
        u.h.live = 0;
        u.h.sum = lk_hash(u.h.seed, u.words, offsetof(struct lk_header, sum));
        u.h.live = LK_LIVE;
        memcpy(file, &u.h, sizeof(u.h));
}

static unsigned long outcomes[4]; /* TRYAGAIN, UNAVAIL, NOTFOUND, SUCCESS */

static bool said(enum nss_status s) {
        if (s < NSS_STATUS_TRYAGAIN || s > NSS_STATUS_SUCCESS)
                FAIL("status %d", (int) s);
        outcomes[s - NSS_STATUS_TRYAGAIN]++;
        return s == NSS_STATUS_SUCCESS;
}

static unsigned long sum;

static void ask(const char *const *names, size_t count) {
        static char buffer[1 << 16];
        struct passwd p;
        struct group g;
        int e;

        for (size_t i = 0; i < count; i++) {
                long start = 0, room = 1;
                gid_t *gids = malloc(sizeof(gid_t));

                if (said(_nss_latchkey_getpwnam_r(names[i], &p, buffer, sizeof(buffer), &e)))
                        sum += strlen(p.pw_name) + strlen(p.pw_passwd) + strlen(p.pw_gecos) + strlen(p.pw_dir) + strlen(p.pw_shell);
                if (said(_nss_latchkey_getgrnam_r(names[i], &g, buffer, sizeof(buffer), &e)))
                        for (char **m = g.gr_mem; *m; m++)
                                sum += strlen(*m);
                if (said(_nss_latchkey_initgroups_dyn(names[i], (gid_t) -1, &start, &room, &gids, -1, &e)))
                        for (long k = 0; k < start; k++)
                                if (gids[k] < 1000 || gids[k] == 65534)
                                        FAIL("gid %u", gids[k]);
                free(gids);
        }
        for (uint32_t id = BASE + 1000; id < BASE + 1036; id += 3)
                if (said(_nss_latchkey_getpwuid_r(id, &p, buffer, sizeof(buffer), &e)) && (p.pw_uid != id || p.pw_gid < 1000))
                        FAIL("uid %u", p.pw_uid);
        for (uint32_t id = BASE + 50000000; id < BASE + 50000036; id += 7)
                said(_nss_latchkey_getgrgid_r(id, &g, buffer, sizeof(buffer), &e));
        _nss_latchkey_setpwent(0);
        for (unsigned n = 0; said(_nss_latchkey_getpwent_r(&p, buffer, sizeof(buffer), &e)); n++)
                if (p.pw_uid < 1000 || n > file_size)
                        FAIL("uid %u, the %u. one", p.pw_uid, n);
        _nss_latchkey_setgrent(0);
        for (unsigned n = 0; said(_nss_latchkey_getgrent_r(&g, buffer, sizeof(buffer), &e)); n++)
                if (g.gr_gid < 1000 || n > file_size)
                        FAIL("gid %u, the %u. one", g.gr_gid, n);
}

int main(int argc, char **argv) {
        static const char *const names[] = {"user00001", "AADDSCONTOSO\\user00002", "USER00003@aadds.contoso.test", "first.last4@contoso.test",
                                            "group0001",     "nobody-here",             "\xc3\x89",                   "aaddscontoso\\user00007"};
        unsigned long rounds = 0;
        unsigned char *good;
        time_t end;
        FILE *f;

        if (argc != 4 || !(f = fopen(argv[1], "rb")))
                return 2;
        good = malloc(1 << 20);
        file_size = fread(good, 1, 1 << 20, f);
        fclose(f);
        file = malloc(file_size); /* exactly */
        state = strtoull(argv[3], NULL, 10) * 2 + 1;
        end = time(NULL) + atoi(argv[2]);
        memcpy(file, good, file_size);
        ask(names, sizeof(names) / sizeof(names[0]));
        if (outcomes[3] < 20 || outcomes[1] != 0)
                FAIL("the snapshot as it was answers %lu lookups, and %lu not", outcomes[3], outcomes[1]);
        do {
                unsigned changes = 1 + (unsigned) (draw() % 4);

                memcpy(file, good, file_size);
                for (unsigned i = 0; i < changes; i++) {
                        size_t at = draw() % 8 == 0 ? draw() % sizeof(struct lk_header) : LK_HEADER_SIZE + draw() % (file_size - LK_HEADER_SIZE);
                        uint32_t word;

                        if (draw() % 4 == 0) {
                                file[at] = (unsigned char) draw();
                                continue;
                        }
                        at &= ~(size_t) 3;
                        memcpy(&word, file + at, 4);
                        word = nasty(word);
                        memcpy(file + at, &word, 4);
                }
                if (draw() % 16 != 0)
                        seal();
                ask(names, sizeof(names) / sizeof(names[0]));
                rounds++;
        } while (rounds % 64 != 0 || time(NULL) < end);
        printf("%lu snapshots: %lu found, %lu not found, %lu unavailable, %lu too small, %lu bytes\n", rounds, outcomes[3], outcomes[2], outcomes[1], outcomes[0], sum);
        free(file);
        free(good);
        return 0;
}
