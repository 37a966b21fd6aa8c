/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both ends of the benchmark of forward-auth, as lean as they can be:
 *
 *   forwardbench answer SOCKET
 *       lets everybody in, from one thread: the least that a process can cost
 *       that a proxy asks.
 *   forwardbench load WHERE PATH CONNECTIONS MILLISECONDS HOST COOKIE
 *       asks for PATH over and over on so many kept connections, and prints what
 *       it took as JSON. WHERE is a port of 127.0.0.1 or the path of a socket.
 *
 * One thread in epoll_wait each. It is no HTTP client: it takes every answer to
 * be as long as the first one, and no question to come in pieces.
 */

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64

static const char yes[] = "HTTP/1.1 200 OK\r\nX-Latchkey-User: user00001\r\nX-Latchkey-Uid: 1000\r\n"
                          "X-Latchkey-Groups: domain%20users\r\nCache-Control: no-store\r\nContent-Length: 0\r\n"
                          "Date: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n";

static void watch(int poll, int fd, void *who)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = who};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e))
        err(1, "epoll_ctl");
}

static void unix_address(struct sockaddr_un *a, const char *path)
{
    a->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof a->sun_path)
        errx(1, "%s: too long", path);
    strcpy(a->sun_path, path);
}

/* What epoll gives back for a connection of the answering side. */
struct end {
    int fd;
};

static void answer(const char *path)
{
    struct sockaddr_un a = {0};
    struct end door;
    int poll = epoll_create1(0);

    signal(SIGPIPE, SIG_IGN);
    unix_address(&a, path);
    unlink(path);
    door.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(door.fd, (struct sockaddr *)&a, sizeof a) || chmod(path, 0666) || listen(door.fd, 4096))
        err(1, "%s", path);
    watch(poll, door.fd, &door);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct end *c = events[i].data.ptr;
            char text[16384];
            ssize_t got;
            if (c == &door) {
                struct end *come = malloc(sizeof *come);
                if (!come || (come->fd = accept(door.fd, NULL, NULL)) < 0)
                    err(1, "accept");
                watch(poll, come->fd, come);
                continue;
            }
            got = read(c->fd, text, sizeof text);
            if (got >= 4 && memcmp(text + got - 4, "\r\n\r\n", 4))
                errx(1, "a question came in pieces");
            if (got <= 0 || write(c->fd, yes, sizeof yes - 1) != (ssize_t)sizeof yes - 1) {
                close(c->fd);
                free(c);
            }
        }
    }
}

struct asker {
    int fd;
    long got;      /* of the answer */
    double since;  /* ns */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int dial(const char *where)
{
    int fd, one = 1;
    if (where[0] == '/') {
        struct sockaddr_un a = {0};
        unix_address(&a, where);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a))
            err(1, "%s", where);
        return fd;
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(where)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        err(1, "port %s", where);
    return fd;
}

static char text[1 << 16];

/* The length of a whole answer, which must be a 200. */
static long first(int fd, const char *question, long length)
{
    long got = 0;
    if (write(fd, question, length) != length)
        err(1, "write");
    for (;;) {
        ssize_t n = read(fd, text + got, sizeof text - 1 - got);
        char *end, *body;
        if (n <= 0)
            errx(1, "closed after %ld bytes", got);
        text[got += n] = 0;
        if (!(end = strstr(text, "\r\n\r\n")))
            continue;
        if (strncmp(text, "HTTP/1.1 200", 12))
            errx(1, "answer %.60s", text);
        body = strcasestr(text, "\r\nContent-Length:");
        long want = end + 4 - text + (body && body < end ? atol(body + 17) : 0);
        if (got >= want)
            return want;
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void load(char **arg)
{
    int connections = atoi(arg[2]), poll = epoll_create1(0);
    double length = atof(arg[3]) * 1e6, began, warm, ended = 0;
    size_t most = 1 << 21, done = 0;
    float *took = malloc(most * sizeof *took);
    struct asker *all = calloc(connections, sizeof *all);
    char question[4096];
    /* What a browser sends. */
    int size = snprintf(question, sizeof question,
                        "GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Host: %s\r\nX-Forwarded-Uri: /file\r\n"
                        "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n"
                        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
                        "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
                        "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n"
                        "Cookie: theme=dark; %s\r\n\r\n",
                        arg[1], arg[4], arg[4], arg[5]);
    long want = 0;

    if (!took || !all || size >= (int)sizeof question)
        errx(1, "too much");
    for (int i = 0; i < connections; i++) {
        all[i].fd = dial(arg[0]);
        watch(poll, all[i].fd, &all[i]);
        want = first(all[i].fd, question, size);
    }
    began = now();
    warm = began + length / 10;
    for (int i = 0; i < connections; i++) {
        all[i].since = now();
        if (write(all[i].fd, question, size) != size)
            err(1, "write");
    }
    while (!ended) {
        struct epoll_event events[EVENTS];
        /* One connection is read at once: its client has nothing else to wait for. */
        int n = connections > 1 ? epoll_wait(poll, events, EVENTS, -1) : (events[0].data.ptr = all, 1);
        for (int i = 0; i < n && !ended; i++) {
            struct asker *c = events[i].data.ptr;
            ssize_t got = read(c->fd, text, sizeof text);
            double at;
            if (got <= 0)
                errx(1, "closed: %s", strerror(errno));
            if ((c->got += got) < want)
                continue;
            at = now();
            if (at > warm && done < most)
                took[done++] = at - c->since;
            if (at - began > length)
                ended = at;
            c->got = 0;
            c->since = at;
            if (write(c->fd, question, size) != size)
                err(1, "write");
        }
    }
    if (!done)
        errx(1, "nothing was answered");
    qsort(took, done, sizeof *took, by_size);
    printf("{\"p50_ns\":%.0f,\"p99_ns\":%.0f,\"per_second\":%.0f}\n", took[done / 2], took[done * 99 / 100],
           done / ((ended - warm) / 1e9));
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "answer"))
        answer(argv[2]);
    else if (argc == 8 && !strcmp(argv[1], "load"))
        load(argv + 2);
    else
        errx(2, "usage: forwardbench answer SOCKET | load WHERE PATH CONNECTIONS MILLISECONDS HOST COOKIE");
    return 0;
}
