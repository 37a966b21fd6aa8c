/* SPDX-License-Identifier: Apache-2.0 */

/* Times sign-ins by PAM, as an application sees them: pam_start, authenticate,
 * acct_mgmt, pam_end.
 *
 *   pambench SERVICE FILE AT_A_TIME ROUNDS
 *
 * FILE has "name password" in each line. AT_A_TIME processes share the lines, for
 * a sign-in is a process's business; each signs in its share ROUNDS times. Prints
 * one line: how many were tried, how many came in, the wall time of all in
 * microseconds, and then the microseconds of each. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_appl.h>

#define MOST 4096

static char names[MOST][64], passwords[MOST][64];

/* Shared by the processes. */
struct reading {
        uint64_t us;
        int in;
};

static uint64_t now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **ret, void *password) {
        struct pam_response *all = calloc((size_t) count, sizeof(*all));

        if (!all)
                return PAM_BUF_ERR;
        for (int i = 0; i < count; i++)
                if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
                        all[i].resp = strdup(password);
        *ret = all;
        return PAM_SUCCESS;
}

static struct reading sign_in(const char *service, int line) {
        struct pam_conv conv = {converse, passwords[line]};
        struct reading r = {now_us(), 0};
        pam_handle_t *pamh;
        int status = pam_start(service, names[line], &conv, &pamh);

        if (status == PAM_SUCCESS) {
                pam_set_item(pamh, PAM_TTY, "ssh");
                status = pam_authenticate(pamh, 0);
                if (status == PAM_SUCCESS)
                        status = pam_acct_mgmt(pamh, 0);
                pam_end(pamh, status);
        }
        r.us = now_us() - r.us;
        r.in = status == PAM_SUCCESS;
        return r;
}

int main(int argc, char **argv) {
        int lines = 0, at_a_time, rounds, tried, in = 0;
        struct reading *all;
        uint64_t begun;
        FILE *f;

        if (argc != 5 || !(f = fopen(argv[2], "r"))) {
                fprintf(stderr, "usage: pambench SERVICE FILE AT_A_TIME ROUNDS\n");
                return 2;
        }
        while (lines < MOST && fscanf(f, "%63s %63s", names[lines], passwords[lines]) == 2)
                lines++;
        fclose(f);
        at_a_time = atoi(argv[3]);
        rounds = atoi(argv[4]);
        tried = lines * rounds;
        all = mmap(NULL, sizeof(*all) * (size_t) (tried + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || at_a_time < 1)
                return 2;
        begun = now_us();
        for (int p = 0; p < at_a_time; p++) {
                pid_t pid = fork();

                if (pid < 0)
                        return 1;
                if (pid == 0) {
                        for (int i = p; i < tried; i += at_a_time)
                                all[i] = sign_in(argv[1], i % lines);
                        _exit(0);
                }
        }
        while (wait(NULL) > 0)
                ;
        begun = now_us() - begun;
        for (int i = 0; i < tried; i++)
                in += all[i].in;
        printf("%d %d %llu", tried, in, (unsigned long long) begun);
        for (int i = 0; i < tried; i++)
                printf(" %llu", (unsigned long long) all[i].us);
        printf("\n");
        return 0;
}
