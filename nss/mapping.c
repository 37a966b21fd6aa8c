/* SPDX-License-Identifier: Apache-2.0 */

/* Which snapshot to ask.
 *
 * The file is mapped once and shared by all threads of the process. It never
 * changes, but for its live word: when a newer snapshot has taken its place, the
 * publisher overwrites that word, and a minute later punches out the content.
 * So one load tells whether the mapping is current, and the same load after a
 * lookup tells whether what was copied can be believed.
 *
 * A mapping has to go away while other threads may be reading it. Nothing
 * counts readers, for a count is a write to a line that all processors share, a
 * child of fork inherits the counts of threads that it does not have, and a
 * cancelled thread never gives its back. Instead no address that a reader may
 * hold is ever unmapped: there are two slots, each with a region of addresses of
 * its own, and a file is mapped over the region of the slot that is not current.
 * The old slot's region is then mapped over with pages of zeroes, which gives
 * the old file back and reads as "not live". A reader that is overtaken in the
 * middle sees zeroes, or another snapshot's bytes; it survives, because it
 * compares every offset with bounds that it copied beforehand, and afterwards it
 * finds that the mapping is no longer current and starts again. Addresses are
 * given up only when a file has outgrown a region; the next region has room to
 * grow, so what is given up stays below a few times the size of the file.
 *
 * So the way of a hit has no lock, no write to shared memory and no system call.
 * It can be interrupted by a signal whose handler asks as well, cancelled at any
 * instruction, or forked away from.
 *
 * Only one thread at a time may replace the mapping. It holds a claim, which is
 * the pid, so that a child that was forked in the meantime can see that the
 * holder is not one of its threads. A thread that finds the claim taken and
 * nothing current to ask does not wait: it maps the file for itself alone. While
 * it holds a claim or a mapping of its own a thread cannot be cancelled, and
 * while it holds a claim it takes no signals.
 *
 * A published file is never truncated, so no page of a mapping can be missing;
 * who does that by hand kills the readers, as with any library.
 *
 * Should the publisher die before it marks the old file, or be unable to, a
 * glance at the path every PERIOD_MS tells; that is the one system call. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __SANITIZE_THREAD__
#include <sys/syscall.h>
#endif
#include <time.h>
#include <unistd.h>

#include "latchkey.h"

#ifdef LATCHKEY_TEST
const char *lk_test_path = "";
uid_t lk_test_owner;
uint64_t lk_test_period_ms = 2000;
#define PATH lk_test_path
#define OWNER lk_test_owner
#define PERIOD_MS lk_test_period_ms
#else
#define PATH "/var/lib/latchkey-nss/identities"
#define OWNER ((uid_t) 0)
#define PERIOD_MS 2000
#endif

/* More often than this nobody publishes during one lookup. */
#define MAX_TRIES 16

#define REGION_STEP (1024U * 1024U)

/* The thread sanitizer does not know fences; the order of loads from a file
 * that nobody writes is nothing that it could judge. */
#ifdef __SANITIZE_THREAD__
#define fence() __asm__ volatile("" ::: "memory")
#else
#define fence() atomic_thread_fence(memory_order_acquire)
#endif

/* What tells a file at the path from another one, and the root directory under
 * which the path was looked up. While a file is mapped its inode number is not
 * given to another. */
struct file {
        dev_t dev, root_dev;
        ino_t ino, root_ino;
        off_t size;
        struct timespec mtime;
};

#define VIEW_WORDS (sizeof(struct lk_view) / sizeof(uint64_t))
_Static_assert(sizeof(struct lk_view) % sizeof(uint64_t) == 0, "a view is whole words");

static struct slot {
        _Atomic uint64_t view[VIEW_WORDS];
        /* From here on for the holder of the claim only. */
        unsigned char *region;
        size_t capacity;
        struct file file;
} slots[2];

/* How often the mapping was replaced, whether there is one, and in which slot:
 * count << 2 | present << 1 | slot. Never the same value twice. */
static _Atomic uint64_t current;
static _Atomic pid_t claim;
static _Atomic uint64_t next_glance;

#define PRESENT UINT64_C(2)

#ifdef LATCHKEY_TEST
void lk_test_look(void) {
        atomic_store(&next_glance, 0);
}
#endif

static uint64_t now_ms(void) {
        struct timespec t;

        if (clock_gettime(CLOCK_MONOTONIC_COARSE, &t) != 0)
                return 0;
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static inline bool live(const struct lk_view *v) {
        return lk_load32(v->base + offsetof(struct lk_header, live)) == LK_LIVE;
}

/* Copies the view of a mapping, unless that is replaced while it copies. The
 * loads acquire: who sees a word of a later view sees a later current, too. */
static bool copy_view(uint64_t seen, struct lk_view *ret) {
        struct slot *slot = &slots[seen & 1];
        uint64_t words[VIEW_WORDS];

        for (size_t i = 0; i < VIEW_WORDS; i++)
                words[i] = atomic_load_explicit(&slot->view[i], memory_order_acquire);
        if (atomic_load_explicit(&current, memory_order_relaxed) != seen)
                return false;
        memcpy(ret, words, sizeof(*ret));
        return true;
}

static bool take_claim(sigset_t *ret_signals, int *ret_cancel) {
        pid_t me = getpid(), holder = 0;
        sigset_t all;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, ret_signals);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, ret_cancel);
        if (atomic_compare_exchange_strong(&claim, &holder, me) || (holder != me && atomic_compare_exchange_strong(&claim, &holder, me)))
                return true;
        pthread_setcancelstate(*ret_cancel, NULL);
        pthread_sigmask(SIG_SETMASK, ret_signals, NULL);
        return false;
}

static void give_claim(const sigset_t *signals, int cancel) {
        atomic_store(&claim, 0);
        pthread_setcancelstate(cancel, NULL);
        pthread_sigmask(SIG_SETMASK, signals, NULL);
}

/* Opens the file at the path if it may be a snapshot of ours: -1, and in errno
 * EBADMSG for a file that may not. A FIFO is not waited for, a link not
 * followed. */
static int open_file(struct file *ret) {
        struct stat st, root;
        int fd = open(PATH, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                return -1;
        if (fstat(fd, &st) != 0 || stat("/", &root) != 0 || !S_ISREG(st.st_mode) || st.st_uid != OWNER || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
            st.st_size < (off_t) LK_HEADER_SIZE || st.st_size > (off_t) LK_MAX_SIZE) {
                close(fd);
                errno = EBADMSG;
                return -1;
        }
        *ret = (struct file) {st.st_dev, root.st_dev, st.st_ino, root.st_ino, st.st_size, st.st_mtim};
        return fd;
}

/* Whether a failure to open says that there is no snapshot any more. A process
 * that has run out of descriptors or memory, or may not look, cannot tell, and
 * keeps what it has while that is live; so does one that has changed its root
 * directory since it mapped the file. */
static bool is_gone(const struct file *mapped) {
        struct stat root;

        switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case EACCES:
        case EPERM:
        case EIO:
                return false;
        case ENOENT:
        case ENOTDIR:
                return stat("/", &root) != 0 || (root.st_dev == mapped->root_dev && root.st_ino == mapped->root_ino);
        default:
                return true;
        }
}

/* Maps a file, or zeroes for -1, over the first bytes of a slot's region. The
 * thread sanitizer would take this for a write to them, and a reader who is
 * overtaken for a race, so it is not told. */
static bool map_over(struct slot *slot, size_t size, int fd) {
        int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED);

#ifdef __SANITIZE_THREAD__
        return syscall(SYS_mmap, slot->region, size, PROT_READ, flags, fd, 0) != -1;
#else
        return mmap(slot->region, size, PROT_READ, flags, fd, 0) != MAP_FAILED;
#endif
}

static void blank(struct slot *slot) {
        if (slot->capacity > 0)
                (void) map_over(slot, slot->capacity, -1);
}

/* Gives the slot a region for size bytes. One that is too small stays mapped,
 * for there may be a reader in it. */
static bool reserve(struct slot *slot, size_t size) {
        size_t want = (size + size / 4 + REGION_STEP - 1) / REGION_STEP * REGION_STEP;
        void *region;

        if (slot->capacity >= size)
                return true;
        region = mmap(NULL, want, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (region == MAP_FAILED)
                return false;
        slot->capacity = 0; /* a child forked between these lines reserves again */
        slot->region = region;
        slot->capacity = want;
        return true;
}

/* Maps the file at the path into a slot: LK_FOUND, LK_ABSENT when it was
 * superseded while it was opened, LK_BROKEN when it is no snapshot of ours, or
 * LK_UNAVAILABLE when it could not be opened or mapped (errno). */
static enum lk_outcome map_into(struct slot *slot, struct lk_view *ret) {
        enum lk_outcome r = LK_UNAVAILABLE;
        int fd = open_file(&slot->file);
        int saved;

        if (fd < 0)
                return LK_UNAVAILABLE;
        if (reserve(slot, (size_t) slot->file.size) && map_over(slot, (size_t) slot->file.size, fd)) {
                r = lk_view_init(ret, slot->region, (size_t) slot->file.size);
                if (r != LK_FOUND)
                        blank(slot);
        }
        saved = errno;
        close(fd);
        errno = saved;
        return r;
}

/* Maps the file at the path in place of what is current, or gives that up if
 * there is no such file. For the holder of the claim. */
static bool replace(void) {
        uint64_t seen = atomic_load(&current);
        unsigned next = (seen & 1) ^ 1;
        struct slot *slot = &slots[next], *old = &slots[seen & 1];
        enum lk_outcome r = LK_ABSENT;
        struct lk_view view;

        for (unsigned i = 0; i < MAX_TRIES && r == LK_ABSENT; i++)
                r = map_into(slot, &view);
        if (r == LK_FOUND) {
                uint64_t words[VIEW_WORDS];

                memcpy(words, &view, sizeof(view));
                for (size_t i = 0; i < VIEW_WORDS; i++)
                        atomic_store_explicit(&slot->view[i], words[i], memory_order_release);
                atomic_store(&current, ((seen >> 2) + 1) << 2 | PRESENT | next);
                blank(old);
        } else if ((seen & PRESENT) && (r != LK_UNAVAILABLE || is_gone(&old->file))) {
                atomic_store(&current, ((seen >> 2) + 1) << 2 | next);
                blank(old);
        }
        atomic_store(&next_glance, now_ms() + PERIOD_MS);
        return r == LK_FOUND;
}

/* Compares the file at the path with the one that is mapped, and maps it when
 * it is another. */
static void glance(void) {
        const struct file *mapped;
        sigset_t signals;
        struct stat st;
        int cancel;

        if (!take_claim(&signals, &cancel))
                return;
        mapped = &slots[atomic_load(&current) & 1].file;
        if (stat(PATH, &st) != 0 || st.st_dev != mapped->dev || st.st_ino != mapped->ino || st.st_size != mapped->size ||
            st.st_mtim.tv_sec != mapped->mtime.tv_sec || st.st_mtim.tv_nsec != mapped->mtime.tv_nsec)
                (void) replace();
        give_claim(&signals, cancel);
}

/* Maps the file for this session alone. */
static enum lk_outcome map_own(struct lk_session *s) {
        enum lk_outcome r = LK_UNAVAILABLE;
        struct file file;
        int fd;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &s->cancel_state);
        fd = open_file(&file);
        if (fd >= 0) {
                void *base = mmap(NULL, (size_t) file.size, PROT_READ, MAP_SHARED, fd, 0);

                close(fd);
                if (base != MAP_FAILED) {
                        r = lk_view_init(&s->view, base, (size_t) file.size);
                        if (r != LK_FOUND)
                                munmap(base, (size_t) file.size);
                }
        }
        s->own = r == LK_FOUND;
        if (!s->own)
                pthread_setcancelstate(s->cancel_state, NULL);
        return r;
}

/* Looks for a snapshot where none is current. */
static bool find(struct lk_session *s) {
        for (; s->tries < MAX_TRIES; s->tries++) {
                bool found = true;
                sigset_t signals;
                int cancel;

                if (!take_claim(&signals, &cancel)) {
                        enum lk_outcome r = map_own(s);

                        if (r == LK_ABSENT)
                                continue;
                        return r == LK_FOUND;
                }
                if (atomic_load(&current) == s->current)
                        found = replace();
                give_claim(&signals, cancel);
                s->current = atomic_load(&current);
                if ((s->current & PRESENT) && copy_view(s->current, &s->view) && live(&s->view))
                        return true;
                if (!found)
                        return false;
        }
        return false;
}

void lk_begin(struct lk_session *s) {
        s->tries = 0;
        s->own = false;
}

bool lk_enter(struct lk_session *s) {
        uint64_t now, due;
        bool found;
        int saved;

        s->current = atomic_load_explicit(&current, memory_order_acquire);
        if (s->current & PRESENT) {
                now = now_ms();
                due = atomic_load_explicit(&next_glance, memory_order_relaxed);
                if (now >= due && atomic_compare_exchange_strong(&next_glance, &due, now + PERIOD_MS)) {
                        saved = errno;
                        glance();
                        errno = saved;
                        s->current = atomic_load(&current);
                }
                if (s->tries < MAX_TRIES && (s->current & PRESENT) && copy_view(s->current, &s->view) && live(&s->view))
                        return true;
        }
        saved = errno;
        found = find(s);
        errno = saved;
        return found;
}

bool lk_leave(struct lk_session *s) {
        bool whole;

        fence();
        whole = live(&s->view) && (s->own || atomic_load_explicit(&current, memory_order_relaxed) == s->current);
        if (s->own) {
                int saved = errno;

                munmap((void *) (uintptr_t) s->view.base, s->view.size);
                pthread_setcancelstate(s->cancel_state, NULL);
                errno = saved;
                s->own = false;
        }
        s->tries++;
        return whole;
}
