/* SPDX-License-Identifier: Apache-2.0 */

/* The tickets' way from authenticate to the user.
 *
 * sshd's keyboard-interactive calls authenticate in a child of its own and takes
 * only the PAM environment over, so authenticate leaves the tickets in a file
 * that root alone can reach, under a name that nobody can guess, and puts that
 * name into the PAM environment. setcred, or open_session where an application
 * forgot setcred, moves them into a new file of the user's, and names that in
 * KRB5CCNAME. A user who can write the PAM environment (pam_env reads a file in
 * the home directory) cannot name somebody else's tickets: the name is no path,
 * and the file says whose they are. For sudo and su change PAM_USER on the way.
 *
 * The user's file is made as the user (setfsuid(2), which is the thread's alone,
 * and takes root's way around permissions with it), new, no link followed. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modutil.h>
#include <syslog.h>

#include "latchkey.h"

#define STASH LK_SETTING("STASH", "/run/latchkey-pam")
#define USERS LK_SETTING("CCACHES", "/tmp")
#define VARIABLE "LATCHKEY_CCACHE"
#define DATA "latchkey:ccache"

/* Longer than sshd and login give anybody to sign in. */
#define MAX_AGE 600

#define TOKEN 32 /* hexadecimal digits: 128 bits */

/* What goes before the tickets in the stash. */
struct owner {
        uint32_t uid;
        uint32_t gid;
};

/* The user's file, for the session's end. */
struct made {
        struct owner owner;
        char path[];
};

static bool draw_token(char ret[TOKEN + 1]) {
        unsigned char random[TOKEN / 2];

        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return false;
        for (size_t i = 0; i < sizeof(random); i++)
                snprintf(ret + 2 * i, 3, "%02x", random[i]);
        return true;
}

static bool is_token(const char *s) {
        return strlen(s) == TOKEN && strspn(s, "0123456789abcdef") == TOKEN;
}

static int open_stash(bool make) {
        struct stat st;
        int fd;

        if (make && mkdir(STASH, 0700) != 0 && errno != EEXIST)
                return -1;
        fd = open(STASH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -1;
        if (fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
                close(fd);
                return -1;
        }
        return fd;
}

static bool write_all(int fd, const void *from, size_t size) {
        const unsigned char *at = from;

        while (size > 0) {
                ssize_t n = write(fd, at, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                at += n;
                size -= (size_t) n;
        }
        return true;
}

/* Removes what sign-ins left that went no further than authenticate. */
static void sweep(int stash) {
        int fd = openat(stash, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        time_t now = time(NULL);

        if (!dir) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        while ((entry = readdir(dir))) {
                struct stat st;

                if (is_token(entry->d_name) && fstatat(stash, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    (st.st_mtime + MAX_AGE < now || st.st_mtime > now + MAX_AGE))
                        (void) unlinkat(stash, entry->d_name, 0);
        }
        closedir(dir);
}

/* Takes what waits under the name in the environment out of the stash, and the
 * name out of the environment. *ret is to be wiped and freed. */
static bool take_out(pam_handle_t *pamh, struct owner *ret_owner, unsigned char **ret, size_t *ret_size) {
        const char *value = pam_getenv(pamh, VARIABLE);
        char token[TOKEN + 1];
        unsigned char *data = NULL;
        size_t size = 0;
        struct stat st;
        int stash, fd = -1;
        bool good = false;

        if (!value)
                return false;
        if (is_token(value)) {
                memcpy(token, value, sizeof(token));
                stash = open_stash(false);
                if (stash >= 0) {
                        fd = openat(stash, token, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                        if (fd >= 0)
                                (void) unlinkat(stash, token, 0);
                        close(stash);
                }
        }
        (void) pam_putenv(pamh, VARIABLE);
        if (fd < 0)
                return false;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_size > (off_t) sizeof(*ret_owner) &&
            st.st_size <= (off_t) (sizeof(*ret_owner) + LK_MAX_CCACHE) && read(fd, ret_owner, sizeof(*ret_owner)) == sizeof(*ret_owner)) {
                size = (size_t) st.st_size - sizeof(*ret_owner);
                data = malloc(size);
                good = data && read(fd, data, size) == (ssize_t) size;
        }
        close(fd);
        if (!good) {
                if (data)
                        explicit_bzero(data, size);
                free(data);
                return false;
        }
        *ret = data;
        *ret_size = size;
        return true;
}

void lk_ccache_discard(pam_handle_t *pamh) {
        unsigned char *data;
        struct owner owner;
        size_t size;

        if (!take_out(pamh, &owner, &data, &size))
                return;
        explicit_bzero(data, size);
        free(data);
}

bool lk_ccache_keep(pam_handle_t *pamh, const struct lk_ending *e) {
        struct owner owner = {.uid = e->uid, .gid = e->gid};
        char variable[sizeof(VARIABLE) + 1 + TOKEN];
        char token[TOKEN + 1];
        bool kept = false;
        int stash, fd;

        lk_ccache_discard(pamh);
        if (e->ccache_size == 0)
                return true;
        stash = open_stash(true);
        if (stash < 0)
                return false;
        sweep(stash);
        if (draw_token(token)) {
                fd = openat(stash, token, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd >= 0) {
                        kept = write_all(fd, &owner, sizeof(owner)) && write_all(fd, e->ccache, e->ccache_size);
                        kept = close(fd) == 0 && kept;
                        if (kept) {
                                snprintf(variable, sizeof(variable), VARIABLE "=%s", token);
                                kept = pam_putenv(pamh, variable) == PAM_SUCCESS;
                        }
                        if (!kept)
                                (void) unlinkat(stash, token, 0);
                }
        }
        close(stash);
        return kept;
}

/* Whose permissions the thread's next file operations have. False: it has those
 * it had. */
static bool become(struct owner to, struct owner *ret_before) {
        ret_before->gid = (uint32_t) setfsgid(to.gid);
        ret_before->uid = (uint32_t) setfsuid(to.uid);
        if ((uint32_t) setfsuid((uid_t) -1) == to.uid && (uint32_t) setfsgid((gid_t) -1) == to.gid)
                return true;
        setfsuid(ret_before->uid);
        setfsgid(ret_before->gid);
        return false;
}

static void become_again(struct owner before) {
        setfsuid(before.uid);
        setfsgid(before.gid);
}

static bool write_as_user(const char *path, struct owner owner, const unsigned char *data, size_t size) {
        struct owner before;
        bool good = false;
        int fd;

        if (!become(owner, &before))
                return false;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
                good = write_all(fd, data, size);
                good = close(fd) == 0 && good;
                if (!good)
                        (void) unlink(path);
        }
        become_again(before);
        return good;
}

static void forget(pam_handle_t *pamh, void *data, int status) {
        (void) pamh;
        (void) status;
        free(data);
}

/* Whether the name belongs to the uid that the tickets were given to. */
static bool is_owner(pam_handle_t *pamh, const char *name, uint32_t uid) {
#ifdef LATCHKEY_TEST
        const char *played = lk_setting("LATCHKEY_TEST_UID", NULL);

        if (played)
                return (uint32_t) strtoul(played, NULL, 10) == uid;
#endif
        const struct passwd *p = pam_modutil_getpwnam(pamh, name);

        return p && p->pw_uid == uid;
}

void lk_ccache_settle(pam_handle_t *pamh, const char *name) {
        unsigned char *data;
        struct owner owner;
        struct made *made;
        char token[TOKEN + 1];
        char *variable = NULL;
        size_t size;

        if (!take_out(pamh, &owner, &data, &size))
                return;
        made = malloc(sizeof(*made) + PATH_MAX);
        if (made && is_owner(pamh, name, owner.uid) && draw_token(token)) {
                made->owner = owner;
                snprintf(made->path, PATH_MAX, "%s/krb5cc_%" PRIu32 "_%.12s", USERS, owner.uid, token);
                if (!write_as_user(made->path, owner, data, size))
                        pam_syslog(pamh, LOG_WARNING, "cannot write the tickets to %s: %m", made->path);
                else if (asprintf(&variable, "KRB5CCNAME=FILE:%s", made->path) > 0) {
                        (void) pam_putenv(pamh, variable);
                        free(variable);
                        if (pam_set_data(pamh, DATA, made, forget) == PAM_SUCCESS)
                                made = NULL;
                }
        }
        free(made);
        explicit_bzero(data, size);
        free(data);
}

void lk_ccache_remove(pam_handle_t *pamh) {
        const void *data = NULL;
        const struct made *made;
        struct owner before;

        if (pam_get_data(pamh, DATA, &data) != PAM_SUCCESS || !data)
                return;
        made = data;
        if (become(made->owner, &before)) {
                (void) unlink(made->path);
                become_again(before);
        }
        (void) pam_set_data(pamh, DATA, NULL, NULL);
        if (pam_getenv(pamh, "KRB5CCNAME"))
                (void) pam_putenv(pamh, "KRB5CCNAME");
}
