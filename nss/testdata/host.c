/* SPDX-License-Identifier: Apache-2.0 */

/* What a host process may do to the module while snapshots are replaced.
 *
 *      host PATH cancel | signals | descriptors | silent | bypassed | chroot
 *
 * cancel       threads that look up are cancelled at any instruction
 * signals      a signal handler looks up, in the middle of lookups
 * descriptors  every descriptor is closed between lookups
 * silent       under seccomp, a lookup that is not the first makes no system call
 * bypassed     nothing is there for a process with systemd's variables
 * chroot       after a change of root what is mapped is believed until it is
 *              superseded, which the end of standard input says; needs root
 *
 * The first three end with standard input. */

#include <dirent.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "replaced.h"

static bool more(void) {
        struct pollfd p = {.fd = 0, .events = POLLIN};
        char c;

        while (poll(&p, 1, 0) == 1)
                if (read(0, &c, 1) <= 0)
                        return false;
        return true;
}

/* How many mappings there are of files that were our snapshots. */
static unsigned mappings(void) {
        FILE *f = fopen("/proc/self/maps", "r");
        char line[1024];
        unsigned n = 0;

        while (fgets(line, sizeof(line), f))
                n += strstr(line, "identities") != NULL;
        fclose(f);
        return n;
}

static void *look_until_cancelled(void *arg) {
        static _Thread_local char buffer[1 << 16];
        unsigned long turn = (unsigned long) (uintptr_t) arg;

        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (;; turn++)
                if (turn % 6 != 4) /* realloc() cannot be cancelled so */
                        look_once(turn, buffer, sizeof(buffer), NULL, NULL);
        return NULL;
}

static void cancel(void) {
        unsigned long n = 0;

        while (more()) {
                pthread_t ids[4];

                for (unsigned i = 0; i < 4; i++)
                        if (pthread_create(&ids[i], NULL, look_until_cancelled, (void *) (uintptr_t) i) != 0)
                                FAIL("no thread");
                usleep((useconds_t) (n++ * 37 % 400));
                for (unsigned i = 0; i < 4; i++)
                        pthread_cancel(ids[i]);
                for (unsigned i = 0; i < 4; i++)
                        pthread_join(ids[i], NULL);
        }
        printf("cancelled %lu\n", 4 * n);
}

static atomic_ulong handled;

static void look_in_handler(int sig) {
        static char buffer[1 << 16];
        static unsigned long turn;
        int saved = errno;

        (void) sig;
        if (turn++ % 6 != 4)
                look_once(turn - 1, buffer, sizeof(buffer), NULL, NULL);
        atomic_fetch_add(&handled, 1);
        errno = saved;
}

static void signals(void) {
        struct sigaction action = {.sa_handler = look_in_handler, .sa_flags = SA_RESTART};
        struct itimerval timer = {{0, 50}, {0, 50}};
        static char buffer[1 << 16];
        unsigned long turn = 0;

        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &timer, NULL);
        while (more())
                for (unsigned i = 0; i < 1000; i++, turn++)
                        if (turn % 6 != 4)
                                look_once(turn, buffer, sizeof(buffer), NULL, NULL);
        printf("handled %lu\n", atomic_load(&handled));
}

static unsigned open_descriptors(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static void descriptors(void) {
        static char buffer[1 << 16];
        long room = LIST + 2;
        gid_t *gids = malloc((size_t) room * sizeof(gid_t));
        unsigned long turn = 0;
        unsigned before;

        for (int fd = 3; fd < 64; fd++)
                close(fd);
        before = open_descriptors();
        while (more()) {
                for (unsigned i = 0; i < 1000; i++)
                        look_once(turn++, buffer, sizeof(buffer), &gids, &room);
                if (open_descriptors() != before)
                        FAIL("%u descriptors are open, %u before", open_descriptors(), before);
        }
        if (mappings() > 2)
                FAIL("%u mappings", mappings());
        printf("looked %lu\n", turn);
        free(gids);
}

static void silent(void) {
        static char buffer[1 << 16];
        long room = LIST + 2;
        gid_t *gids = malloc((size_t) room * sizeof(gid_t));
        struct passwd p;
        struct group g;
        int e;

        for (unsigned long i = 0; i < 6; i++)
                look_once(i, buffer, sizeof(buffer), &gids, &room);
        setenv("_NO_WINBINDD", "0", 1);
        /* From here on every system call but read, write and exit kills. */
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
                _exit(3);
        for (unsigned long i = 0; i < 60000; i++)
                look_once(i, buffer, sizeof(buffer), &gids, &room);
        _nss_latchkey_getpwuid_r(4711, &p, buffer, sizeof(buffer), &e);
        _nss_latchkey_getgrgid_r(4711, &g, buffer, sizeof(buffer), &e);
        _nss_latchkey_getgrnam_r("nobody-here", &g, buffer, 3, &e);
        _nss_latchkey_getgrnam_r("crowd", &g, buffer, 3, &e);
        _nss_latchkey_setpwent(1);
        while (_nss_latchkey_getpwent_r(&p, buffer, sizeof(buffer), &e) == NSS_STATUS_SUCCESS)
                ;
        _nss_latchkey_setgrent(1);
        while (_nss_latchkey_getgrent_r(&g, buffer, sizeof(buffer), &e) == NSS_STATUS_SUCCESS)
                ;
        if (write(1, "silent\n", 7) == 7)
                syscall(SYS_exit, 0);
        syscall(SYS_exit, 1);
}

static void bypassed(void) {
        char buffer[1024];
        struct passwd p;
        long start = 0, room = 1;
        gid_t *gids = malloc(sizeof(gid_t));
        int e = 0;

        unsetenv("SYSTEMD_NSS_DYNAMIC_BYPASS"); /* it was read at the start */
        if (_nss_latchkey_getpwnam_r("anchor", &p, buffer, sizeof(buffer), &e) != NSS_STATUS_NOTFOUND || e != ENOENT)
                FAIL("a lookup was not bypassed");
        if (_nss_latchkey_initgroups_dyn("anchor", CROWD_GID, &start, &room, &gids, -1, &e) != NSS_STATUS_NOTFOUND || start != 0)
                FAIL("initgroups was not bypassed");
        puts("bypassed");
        free(gids);
}

static void changed_root(void) {
        static char buffer[1 << 16];
        char empty[] = "/tmp/latchkey-root-XXXXXX";
        struct passwd p;
        char c;
        int e;

        look_once(0, buffer, sizeof(buffer), NULL, NULL);
        if (!mkdtemp(empty) || chroot(empty) != 0 || chdir("/") != 0)
                FAIL("chroot: %s", strerror(errno));
        lk_test_period_ms = 0;
        lk_test_look();
        for (unsigned long i = 0; i < 60; i++)
                if (i % 6 != 4)
                        look_once(i, buffer, sizeof(buffer), NULL, NULL);
        puts("changed");
        fflush(stdout);
        while (read(0, &c, 1) > 0)
                ;
        for (int i = 0; i < 2; i++)
                if (_nss_latchkey_getpwnam_r("anchor", &p, buffer, sizeof(buffer), &e) != NSS_STATUS_UNAVAIL || e != EAGAIN)
                        FAIL("a superseded snapshot was believed, or the lookup said errno %d", e);
        puts("unavailable");
}

int main(int argc, char **argv) {
        if (argc != 3)
                return 2;
        lk_test_path = argv[1];
        lk_test_owner = getuid();
        lk_test_period_ms = UINT64_C(1) << 40;
        if (strcmp(argv[2], "cancel") == 0)
                cancel();
        else if (strcmp(argv[2], "signals") == 0)
                signals();
        else if (strcmp(argv[2], "descriptors") == 0)
                descriptors();
        else if (strcmp(argv[2], "silent") == 0)
                silent();
        else if (strcmp(argv[2], "bypassed") == 0)
                bypassed();
        else if (strcmp(argv[2], "chroot") == 0)
                changed_root();
        else
                return 2;
        return 0;
}
