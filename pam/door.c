/* SPDX-License-Identifier: Apache-2.0 */

/* One connection to the daemon, and ttrpc on it: a header of ten bytes (length of
 * what follows and stream id, both big endian, type, flags), then a Request or a
 * Response. A connection serves one conversation, so nothing of it survives a
 * fork. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "latchkey.h"

#define SOCKET LK_SETTING("SOCKET", "/run/latchkey/shim-root.sock")
#define SERVICE "latchkey.v1.ShimService"

/* How long the daemon may be silent. It says "still at it" when it needs more. */
#ifdef LATCHKEY_TEST
#define PATIENCE_MS ((unsigned) strtoul(lk_setting("LATCHKEY_TEST_PATIENCE", "5000"), NULL, 10))
#else
#define PATIENCE_MS 5000U
#endif

#define HEADER 10
enum { REQUEST = 1, RESPONSE = 2 };
enum { CODE_DEADLINE = 4, CODE_UNAVAILABLE = 14 };

static uint64_t now_ms(void) {
        struct timespec t;

        if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
                return 0;
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static enum lk_result wait_for(int fd, short what, uint64_t deadline) {
        struct pollfd p = {.fd = fd, .events = what};

        for (;;) {
                uint64_t now = now_ms();
                int n;

                if (now >= deadline)
                        return LK_UNAVAILABLE;
                n = poll(&p, 1, (int) (deadline - now));
                if (n > 0)
                        return LK_OK;
                if (n < 0 && errno != EINTR)
                        return LK_UNAVAILABLE;
        }
}

/* Who serves the socket must have been root when it began to listen. */
static bool is_root(int fd) {
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || size != sizeof(peer))
                return false;
#ifdef LATCHKEY_TEST
        return peer.uid == (uid_t) strtoul(lk_setting("LATCHKEY_TEST_PEER", "0"), NULL, 10);
#else
        return peer.uid == 0;
#endif
}

enum lk_result lk_door_open(struct lk_door *d) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct timeval patience = {.tv_sec = PATIENCE_MS / 1000, .tv_usec = PATIENCE_MS % 1000 * 1000};
        const char *path = SOCKET;
        size_t size = strlen(path);

        *d = (struct lk_door) {.fd = -1, .stream = 1};
        if (size >= sizeof(address.sun_path))
                return LK_BROKEN;
        memcpy(address.sun_path, path, size + 1);
        d->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (d->fd < 0)
                return LK_UNAVAILABLE;
        /* connect(2) waits while the queue of a daemon that is stopped is full, as
         * long as a send may take. A signal ends the wait; then there is no time
         * to be added up, and giving up is as good. */
        if (setsockopt(d->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
            connect(d->fd, (struct sockaddr *) &address, sizeof(address)) != 0)
                return LK_UNAVAILABLE;
        return is_root(d->fd) ? LK_OK : LK_BROKEN;
}

static enum lk_result send_all(int fd, const unsigned char *at, size_t size, uint64_t deadline) {
        while (size > 0) {
                ssize_t n = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n >= 0) {
                        at += n;
                        size -= (size_t) n;
                } else if (errno == EAGAIN) {
                        enum lk_result r = wait_for(fd, POLLOUT, deadline);

                        if (r != LK_OK)
                                return r;
                } else if (errno != EINTR)
                        return LK_UNAVAILABLE;
        }
        return LK_OK;
}

/* A connection that ends is a daemon that died: not available, rather than
 * broken. */
static enum lk_result receive_all(int fd, unsigned char *at, size_t size, uint64_t deadline) {
        while (size > 0) {
                ssize_t n = recv(fd, at, size, MSG_DONTWAIT);

                if (n > 0) {
                        at += n;
                        size -= (size_t) n;
                } else if (n < 0 && errno == EAGAIN) {
                        enum lk_result r = wait_for(fd, POLLIN, deadline);

                        if (r != LK_OK)
                                return r;
                } else if (n == 0 || errno != EINTR)
                        return LK_UNAVAILABLE;
        }
        return LK_OK;
}

static void put32(unsigned char *at, uint32_t value) {
        at[0] = (unsigned char) (value >> 24);
        at[1] = (unsigned char) (value >> 16);
        at[2] = (unsigned char) (value >> 8);
        at[3] = (unsigned char) value;
}

static uint32_t get32(const unsigned char *at) {
        return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

static void drop_answer(struct lk_door *d) {
        if (d->answer) {
                explicit_bzero(d->answer, d->answer_size);
                free(d->answer);
        }
        d->answer = NULL;
        d->answer_size = 0;
}

/* Reads the answer to the call on the given stream into d->answer. */
static enum lk_result receive_answer(struct lk_door *d, uint32_t stream, uint64_t deadline) {
        unsigned char header[HEADER];
        enum lk_result r = receive_all(d->fd, header, sizeof(header), deadline);
        uint32_t size;

        if (r != LK_OK)
                return r;
        size = get32(header);
        if (get32(header + 4) != stream || header[8] != RESPONSE || size > LK_MAX_ANSWER)
                return LK_BROKEN;
        /* "Still at it" is an answer of no bytes at all. */
        d->answer = malloc(size > 0 ? size : 1);
        if (!d->answer)
                return LK_NO_MEMORY;
        d->answer_size = size;
        return receive_all(d->fd, d->answer, size, deadline);
}

/* Calls a method. What *ret leads to is good until the next call or the close. */
enum lk_result lk_door_call(struct lk_door *d, const char *method, const struct lk_buffer *payload, struct lk_bytes *ret) {
        uint64_t deadline = now_ms() + PATIENCE_MS;
        uint32_t stream = d->stream;
        unsigned char header[HEADER];
        struct lk_buffer request = {0};
        struct lk_answer answer;
        enum lk_result r;

        d->stream += 2; /* those of a client are odd */
        drop_answer(d);
        lk_put_bytes(&request, 1, SERVICE, strlen(SERVICE));
        lk_put_bytes(&request, 2, method, strlen(method));
        lk_put_bytes(&request, 3, payload->at, payload->size);
        if (payload->failed || request.failed) {
                lk_buffer_free(&request);
                return LK_NO_MEMORY;
        }
        put32(header, (uint32_t) request.size);
        put32(header + 4, stream);
        header[8] = REQUEST;
        header[9] = 0;
        r = send_all(d->fd, header, sizeof(header), deadline);
        if (r == LK_OK)
                r = send_all(d->fd, request.at, request.size, deadline);
        lk_buffer_free(&request);
        if (r == LK_OK)
                r = receive_answer(d, stream, deadline);
        if (r != LK_OK)
                return r;
        if (!lk_read_answer(&answer, (struct lk_bytes) {d->answer, d->answer_size}))
                return LK_BROKEN;
        if (answer.code != 0)
                return answer.code == CODE_DEADLINE || answer.code == CODE_UNAVAILABLE ? LK_UNAVAILABLE : LK_BROKEN;
        *ret = answer.payload;
        return LK_OK;
}

void lk_door_close(struct lk_door *d) {
        drop_answer(d);
        if (d->fd >= 0)
                close(d->fd);
        d->fd = -1;
}
