/* SPDX-License-Identifier: Apache-2.0 */

/* Threads look up while snapshots are replaced.
 *
 *      replaced PATH THREADS [fork]
 *
 * Reads numbers from standard input: each is that of a snapshot which has just
 * been published, and no lookup that begins afterwards may answer from an older
 * one. At the end of input it stops and prints how many lookups there were. With
 * "fork" every number also makes a child that looks up for itself. */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "replaced.h"

static atomic_long published;
static atomic_bool stop;
static atomic_ulong lookups;

static void *look(void *arg) {
        static _Thread_local char buffer[1 << 16];
        long room = LIST + 2, last = 0;
        gid_t *gids = malloc((size_t) room * sizeof(gid_t));
        unsigned long turn = (unsigned long) (uintptr_t) arg;

        while (!atomic_load(&stop)) {
                long least = atomic_load(&published);
                long k = look_once(turn++, buffer, sizeof(buffer), &gids, &room);

                if (turn % 6 == 0)
                        continue;
                if (k < least || k < last)
                        FAIL("an answer from snapshot %ld after %ld was published, and %ld seen", k, least, last);
                last = k;
                atomic_fetch_add(&lookups, 1);
        }
        free(gids);
        return NULL;
}

int main(int argc, char **argv) {
        unsigned threads = argc > 2 ? (unsigned) atoi(argv[2]) : 0;
        pthread_t ids[64];
        long k;

        if (argc < 3 || threads > 64)
                return 2;
        lk_test_path = argv[1];
        lk_test_owner = getuid();
        lk_test_period_ms = UINT64_C(1) << 40; /* the mark alone has to tell */
        for (unsigned i = 0; i < threads; i++)
                if (pthread_create(&ids[i], NULL, look, (void *) (uintptr_t) i) != 0)
                        FAIL("no thread");
        while (scanf("%ld", &k) == 1) {
                static char buffer[1 << 16];
                long room = LIST + 2;
                gid_t *gids = malloc((size_t) room * sizeof(gid_t));

                atomic_store(&published, k);
                if (argc > 3) {
                        pid_t child = fork();
                        int status;

                        if (child == 0) {
                                for (unsigned long i = 0; i < 60; i++)
                                        look_once(i, buffer, sizeof(buffer), &gids, &room);
                                _exit(0);
                        }
                        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
                                FAIL("a child forked after %ld: status %#x", k, status);
                }
                for (unsigned long i = 0; i < 5; i++) {
                        long got = look_once(i, buffer, sizeof(buffer), &gids, &room);

                        if (got < k)
                                FAIL("an answer from snapshot %ld after %ld was published", got, k);
                }
                free(gids);
                printf("%ld\n", k);
                fflush(stdout);
        }
        atomic_store(&stop, true);
        for (unsigned i = 0; i < threads; i++)
                pthread_join(ids[i], NULL);
        printf("lookups %lu\n", atomic_load(&lookups));
        return 0;
}
