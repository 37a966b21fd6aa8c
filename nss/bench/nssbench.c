/* SPDX-License-Identifier: Apache-2.0 */

/* nssbench: what a lookup of users and groups costs, through glibc as
 * nsswitch.conf has it, or straight in one NSS module, ours or a peer's.
 *
 *      nssbench [OPTION]... OP KEY...
 *
 *      OP   passwd-name  passwd-uid  group-name  group-gid  initgroups  passwd-all  group-all
 *      KEY  names or numbers; @FILE reads them from a file, one a line. None for *-all.
 *
 *      --module PATH    call this module, as .../libnss_NAME.so.2, and not glibc
 *      --snapshot FILE  a test build of our module reads this file, whoever owns it
 *      --passes N       passes over the keys that count, after one that does not (9)
 *      --calls N        at least so many calls in a pass (200000 / passes)
 *      --threads N      throughput of N threads for --seconds S (2)
 *      --processes N    the same of N processes
 *      --absent         the keys are expected not to be found
 *
 * Prints one line of JSON. Times are nanoseconds for one call: mean_* are of whole
 * passes, taken with two looks at the clock each; p50 to max are of single calls
 * and have one look at the clock in them (clock_ns). "wrong" counts answers other
 * than expected; exit status 1 when there are any. A buffer that is too small is
 * doubled and kept, as glibc's callers do. */

#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum op { PASSWD_NAME, PASSWD_UID, GROUP_NAME, GROUP_GID, INITGROUPS, PASSWD_ALL, GROUP_ALL, OPS };

static const char *const op_names[OPS] = {"passwd-name", "passwd-uid", "group-name", "group-gid", "initgroups", "passwd-all", "group-all"};
static const char *const entry_points[OPS] = {"getpwnam_r", "getpwuid_r", "getgrnam_r", "getgrgid_r", "initgroups_dyn", "getpwent_r", "getgrent_r"};

typedef enum nss_status pwnam_fn(const char *, struct passwd *, char *, size_t, int *);
typedef enum nss_status pwuid_fn(uid_t, struct passwd *, char *, size_t, int *);
typedef enum nss_status grnam_fn(const char *, struct group *, char *, size_t, int *);
typedef enum nss_status grgid_fn(gid_t, struct group *, char *, size_t, int *);
typedef enum nss_status initgroups_fn(const char *, gid_t, long *, long *, gid_t **, long, int *);
typedef enum nss_status pwent_fn(struct passwd *, char *, size_t, int *);
typedef enum nss_status grent_fn(struct group *, char *, size_t, int *);
typedef enum nss_status set_fn(int);

static enum op op;
static void *direct;     /* the module's entry point; NULL is glibc */
static set_fn *set_direct;
static char **keys;
static unsigned *numbers;
static size_t key_count;

/* Buffers of one caller. */
struct caller {
        char *buffer;
        size_t size;
        gid_t *gids;
        long gids_size;
        size_t found; /* rows, members or gids of the last answer */
};

static void die(const char *what) {
        fprintf(stderr, "nssbench: %s\n", what);
        exit(2);
}

static uint64_t now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000U + (uint64_t) t.tv_nsec;
}

static void caller_init(struct caller *c) {
        *c = (struct caller) {.size = 1024, .gids_size = 64};
        c->buffer = malloc(c->size);
        c->gids = malloc((size_t) c->gids_size * sizeof(gid_t));
        if (!c->buffer || !c->gids)
                die("no memory");
}

static void grow(struct caller *c) {
        c->size *= 2;
        c->buffer = realloc(c->buffer, c->size);
        if (!c->buffer)
                die("no memory");
}

/* 1 found, 0 not there, -1 could not tell; -2 is asked again with more room. */
static int said(enum nss_status s, const int *e) {
        if (s == NSS_STATUS_TRYAGAIN && *e == ERANGE)
                return -2;
        return s == NSS_STATUS_SUCCESS ? 1 : s == NSS_STATUS_NOTFOUND ? 0 : -1;
}

static int said_glibc(int r, bool found) {
        if (r == ERANGE)
                return -2;
        return found ? 1 : r == 0 || r == ENOENT ? 0 : -1;
}

static int ask(struct caller *c, size_t i) {
        struct passwd pw, *pwp = NULL;
        struct group gr, *grp = NULL;
        int e = 0, r, n;
        long start = 0;

        switch (op) {
        case PASSWD_NAME:
                if (direct)
                        return said(((pwnam_fn *) direct)(keys[i], &pw, c->buffer, c->size, &e), &e);
                r = getpwnam_r(keys[i], &pw, c->buffer, c->size, &pwp);
                return said_glibc(r, pwp);
        case PASSWD_UID:
                if (direct)
                        return said(((pwuid_fn *) direct)(numbers[i], &pw, c->buffer, c->size, &e), &e);
                r = getpwuid_r(numbers[i], &pw, c->buffer, c->size, &pwp);
                return said_glibc(r, pwp);
        case GROUP_NAME:
                if (direct)
                        return said(((grnam_fn *) direct)(keys[i], &gr, c->buffer, c->size, &e), &e);
                r = getgrnam_r(keys[i], &gr, c->buffer, c->size, &grp);
                return said_glibc(r, grp);
        case GROUP_GID:
                if (direct)
                        return said(((grgid_fn *) direct)(numbers[i], &gr, c->buffer, c->size, &e), &e);
                r = getgrgid_r(numbers[i], &gr, c->buffer, c->size, &grp);
                return said_glibc(r, grp);
        case INITGROUPS:
                if (direct) {
                        r = said(((initgroups_fn *) direct)(keys[i], (gid_t) -1, &start, &c->gids_size, &c->gids, -1, &e), &e);
                        c->found = (size_t) start;
                        return r;
                }
                n = (int) c->gids_size;
                if (getgrouplist(keys[i], (gid_t) -1, c->gids, &n) < 0) {
                        c->gids_size = n;
                        c->gids = realloc(c->gids, (size_t) n * sizeof(gid_t));
                        if (!c->gids)
                                die("no memory");
                        return ask(c, i);
                }
                c->found = (size_t) n - 1;
                return n > 1;
        case PASSWD_ALL:
                c->found = 0;
                direct ? (void) set_direct(0) : setpwent();
                for (;;) {
                        if (direct) {
                                r = said(((pwent_fn *) direct)(&pw, c->buffer, c->size, &e), &e);
                        } else {
                                r = getpwent_r(&pw, c->buffer, c->size, &pwp);
                                r = said_glibc(r, pwp);
                        }
                        if (r == -2)
                                grow(c);
                        else if (r == 1)
                                c->found++;
                        else
                                return r < 0 ? r : c->found > 0;
                }
        case GROUP_ALL:
                c->found = 0;
                direct ? (void) set_direct(0) : setgrent();
                for (;;) {
                        if (direct) {
                                r = said(((grent_fn *) direct)(&gr, c->buffer, c->size, &e), &e);
                        } else {
                                r = getgrent_r(&gr, c->buffer, c->size, &grp);
                                r = said_glibc(r, grp);
                        }
                        if (r == -2)
                                grow(c);
                        else if (r == 1)
                                c->found++;
                        else
                                return r < 0 ? r : c->found > 0;
                }
        case OPS:
                break;
        }
        return -1;
}

static int ask_with_room(struct caller *c, size_t i) {
        int r;

        while ((r = ask(c, i)) == -2)
                grow(c);
        return r;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

static uint64_t latency(size_t passes, size_t calls, int expected) {
        size_t rounds = (calls + key_count - 1) / key_count, n = 0;
        uint64_t *means = calloc(passes, sizeof(uint64_t)), *single = calloc(passes * key_count, sizeof(uint64_t));
        uint64_t wrong = 0, first, clock_ns, t;
        struct caller c;

        if (!means || !single)
                die("no memory");
        caller_init(&c);
        t = now();
        wrong += ask_with_room(&c, 0) != expected;
        first = now() - t;
        for (size_t i = 0; i < key_count; i++)
                wrong += ask_with_room(&c, i) != expected;
        for (size_t p = 0; p < passes; p++) {
                t = now();
                for (size_t r = 0; r < rounds; r++)
                        for (size_t i = 0; i < key_count; i++)
                                wrong += ask_with_room(&c, i) != expected;
                means[p] = (now() - t) * 100 / (rounds * key_count);
                for (size_t i = 0; i < key_count; i++) {
                        t = now();
                        wrong += ask_with_room(&c, i) != expected;
                        single[n++] = now() - t;
                }
        }
        t = now();
        for (int i = 0; i < 1000; i++)
                (void) now();
        clock_ns = (now() - t) / 1000;
        qsort(means, passes, sizeof(uint64_t), compare);
        qsort(single, n, sizeof(uint64_t), compare);
        printf("\"passes\":%zu,\"calls\":%zu,\"mean_ns\":%.1f,\"mean_min_ns\":%.1f,\"mean_max_ns\":%.1f,\"p50_ns\":%lu,\"p99_ns\":%lu,\"max_ns\":%lu,"
               "\"first_ns\":%lu,\"clock_ns\":%lu,\"size\":%zu,",
               passes, rounds * key_count, (double) means[passes / 2] / 100, (double) means[0] / 100, (double) means[passes - 1] / 100,
               (unsigned long) single[n / 2], (unsigned long) single[n - 1 - n / 100], (unsigned long) single[n - 1], (unsigned long) first,
               (unsigned long) clock_ns, c.found);
        return wrong;
}

/* What the workers of a throughput run share. */
static struct shared {
        atomic_bool go, stop;
        struct worker {
                _Alignas(128) uint64_t calls;
                uint64_t wrong;
                size_t number, of;
                int expected;
        } workers[256];
} *shared;

static void *work(void *arg) {
        struct worker *w = arg;
        size_t i = w->number * key_count / w->of;
        struct caller c;

        caller_init(&c);
        while (!atomic_load(&shared->go))
                usleep(100);
        while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
                w->wrong += ask_with_room(&c, i) != w->expected;
                w->calls++;
                if (++i == key_count)
                        i = 0;
        }
        return NULL;
}

static uint64_t throughput(size_t threads, size_t processes, double seconds, int expected) {
        size_t n = threads ? threads : processes;
        uint64_t calls = 0, wrong = 0, t;
        pthread_t ids[256];
        double took;

        if (n > 256)
                die("more than 256 workers");
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                die("no memory");
        for (size_t i = 0; i < n; i++) {
                shared->workers[i] = (struct worker) {.number = i, .of = n, .expected = expected};
                if (threads) {
                        if (pthread_create(&ids[i], NULL, work, &shared->workers[i]) != 0)
                                die("no thread");
                } else if (fork() == 0) {
                        work(&shared->workers[i]);
                        _exit(0);
                }
        }
        t = now();
        atomic_store(&shared->go, true);
        usleep((useconds_t) (seconds * 1e6));
        atomic_store(&shared->stop, true);
        took = (double) (now() - t) / 1e9;
        for (size_t i = 0; i < n; i++) {
                if (threads)
                        pthread_join(ids[i], NULL);
                else
                        wait(NULL);
        }
        for (size_t i = 0; i < n; i++) {
                calls += shared->workers[i].calls;
                wrong += shared->workers[i].wrong;
        }
        printf("\"%s\":%zu,\"seconds\":%.2f,\"per_second\":%.0f,", threads ? "threads" : "processes", n, took, (double) calls / took);
        return wrong;
}

static void load(const char *module, const char *snapshot) {
        char name[64] = "", symbol[128];
        const char *file = strrchr(module, '/');
        void *handle = dlopen(module, RTLD_NOW);

        if (!handle)
                die(dlerror());
        if (sscanf(file ? file + 1 : module, "libnss_%63[^.].so", name) != 1)
                die("a module is named libnss_NAME.so.2");
        snprintf(symbol, sizeof(symbol), "_nss_%s_%s", name, entry_points[op]);
        direct = dlsym(handle, symbol);
        if (!direct)
                die(dlerror());
        if (op == PASSWD_ALL || op == GROUP_ALL) {
                snprintf(symbol, sizeof(symbol), "_nss_%s_%s", name, op == PASSWD_ALL ? "setpwent" : "setgrent");
                set_direct = (set_fn *) dlsym(handle, symbol);
        }
        if (snapshot) {
                const char **path = dlsym(handle, "lk_test_path");
                uid_t *owner = dlsym(handle, "lk_test_owner");

                if (!path || !owner)
                        die("--snapshot needs a test build of the module");
                *path = snapshot;
                *owner = getuid();
        }
}

static void add_key(const char *key) {
        static size_t room;
        char *end;

        if (key_count == room) {
                room = room ? 2 * room : 1024;
                keys = realloc(keys, room * sizeof(*keys));
                numbers = realloc(numbers, room * sizeof(*numbers));
                if (!keys || !numbers)
                        die("no memory");
        }
        keys[key_count] = strdup(key);
        numbers[key_count++] = (unsigned) strtoul(key, &end, 10);
}

static void add_keys(const char *arg) {
        char line[2048];
        FILE *f;

        if (arg[0] != '@') {
                add_key(arg);
                return;
        }
        f = fopen(arg + 1, "r");
        if (!f)
                die("cannot read the file of keys");
        while (fgets(line, sizeof(line), f)) {
                line[strcspn(line, "\n")] = '\0';
                if (line[0])
                        add_key(line);
        }
        fclose(f);
}

int main(int argc, char **argv) {
        const char *module = NULL, *snapshot = NULL;
        size_t passes = 9, calls = 0, threads = 0, processes = 0;
        double seconds = 2;
        int expected = 1, i = 1;
        uint64_t wrong;

        for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
                const char *option = argv[i];

                if (strcmp(option, "--absent") == 0) {
                        expected = 0;
                        continue;
                }
                if (++i == argc)
                        die("an option lacks its value");
                if (strcmp(option, "--module") == 0)
                        module = argv[i];
                else if (strcmp(option, "--snapshot") == 0)
                        snapshot = argv[i];
                else if (strcmp(option, "--passes") == 0)
                        passes = strtoul(argv[i], NULL, 10);
                else if (strcmp(option, "--calls") == 0)
                        calls = strtoul(argv[i], NULL, 10);
                else if (strcmp(option, "--threads") == 0)
                        threads = strtoul(argv[i], NULL, 10);
                else if (strcmp(option, "--processes") == 0)
                        processes = strtoul(argv[i], NULL, 10);
                else if (strcmp(option, "--seconds") == 0)
                        seconds = strtod(argv[i], NULL);
                else
                        die("unknown option");
        }
        for (op = 0; i < argc && op < OPS && strcmp(argv[i], op_names[op]) != 0; op++)
                ;
        if (i == argc || op == OPS || passes == 0)
                die("usage: nssbench [OPTION]... OP KEY... ; see the head of nssbench.c");
        for (i++; i < argc; i++)
                add_keys(argv[i]);
        if (op == PASSWD_ALL || op == GROUP_ALL)
                add_key("all");
        if (key_count == 0)
                die("no keys");
        if (calls == 0)
                calls = op == PASSWD_ALL || op == GROUP_ALL ? 1 : 200000 / passes;
        if (module)
                load(module, snapshot);
        printf("{\"op\":\"%s\",\"through\":\"%s\",\"keys\":%zu,", op_names[op], module ? module : "glibc", key_count);
        wrong = threads || processes ? throughput(threads, processes, seconds, expected) : latency(passes, calls, expected);
        printf("\"wrong\":%lu}\n", (unsigned long) wrong);
        return wrong != 0;
}
