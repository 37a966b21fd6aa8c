/* SPDX-License-Identifier: Apache-2.0 */

/* Loads an NSS module as glibc would, looks up, and forks: the children look up
 * as well.
 *
 *      forked MODULE NAME CHILDREN SECONDS
 *
 * Prints how many children came to their end and how many were still at it after
 * SECONDS (0: they are waited for as long as it takes). */

#include <dlfcn.h>
#include <nss.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 500

typedef enum nss_status getpwnam_fn(const char *, struct passwd *, char *, size_t, int *);

static void look(getpwnam_fn *getpwnam_in) {
        char buffer[1024];
        struct passwd p;
        int e;

        for (unsigned i = 0; i < CALLS; i++)
                getpwnam_in("nobody-here", &p, buffer, sizeof(buffer), &e);
}

int main(int argc, char **argv) {
        unsigned ended = 0, hung = 0;
        getpwnam_fn *getpwnam_in;
        char symbol[128];
        void *module;

        if (argc != 5)
                return 2;
        module = dlopen(argv[1], RTLD_NOW);
        snprintf(symbol, sizeof(symbol), "_nss_%s_getpwnam_r", argv[2]);
        getpwnam_in = module ? (getpwnam_fn *) dlsym(module, symbol) : NULL;
        if (!getpwnam_in) {
                fprintf(stderr, "%s\n", dlerror());
                return 2;
        }
        look(getpwnam_in);
        for (int n = 0; n < atoi(argv[3]); n++) {
                time_t limit = atoi(argv[4]), begin = time(NULL);
                pid_t child = fork();
                int status;

                if (child == 0) {
                        look(getpwnam_in);
                        _exit(0);
                }
                while (waitpid(child, &status, limit > 0 ? WNOHANG : 0) != child) {
                        if (time(NULL) - begin > limit) {
                                kill(child, SIGKILL);
                                waitpid(child, &status, 0);
                                break;
                        }
                        usleep(1000);
                }
                if (status == 0)
                        ended++;
                else
                        hung++;
        }
        printf("%u ended, %u hung\n", ended, hung);
        return 0;
}
