/* SPDX-License-Identifier: Apache-2.0 */

/* A program that signs in: drive CONFDIR SERVICE TIMES NAME [look|keep]. Prints
 * what each call returned the last time, and with look how often the password is
 * still somewhere in its memory; with keep it keeps it itself. The password is
 * typed by drive() only, and stands in the program with every bit turned over. */

#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "correct horse battery" */
static const unsigned char hidden[] = {0x9c, 0x90, 0x8d, 0x8d, 0x9a, 0x9c, 0x8b, 0xdf, 0x97, 0x90, 0x8d, 0x8c, 0x9a, 0xdf, 0x9d, 0x9e, 0x8b, 0x8b, 0x9a, 0x8d, 0x86};

static int drive(int n, const struct pam_message **messages, struct pam_response **ret, void *data) {
        struct pam_response *r = calloc((size_t) n, sizeof(*r));

        (void) data;
        for (int i = 0; i < n; i++) {
                if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF)
                        continue;
                r[i].resp = calloc(1, sizeof(hidden) + 1);
                for (size_t k = 0; k < sizeof(hidden); k++)
                        r[i].resp[k] = (char) ~hidden[k];
        }
        *ret = r;
        return PAM_SUCCESS;
}

/* How often the password stands in writable memory. */
static int look(void) {
        FILE *maps = fopen("/proc/self/maps", "re");
        char line[512];
        int found = 0;

        while (maps && fgets(line, sizeof(line), maps)) {
                unsigned long from, to;
                char mode[5];

                if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || strncmp(mode, "rw", 2) != 0 || strstr(line, "[v"))
                        continue;
                for (const unsigned char *p = (const unsigned char *) from; p + sizeof(hidden) <= (const unsigned char *) to; p++) {
                        size_t k = 0;

                        while (k < sizeof(hidden) && (p[k] ^ hidden[k]) == 0xff)
                                k++;
                        found += k == sizeof(hidden);
                }
        }
        if (maps)
                fclose(maps);
        return found;
}

int main(int argc, char **argv) {
        static const struct pam_conv conv = {drive, NULL};
        int a = -1, b = -1, c = -1, d = -1, e = -1, f = -1;

        if (argc < 5)
                return 2;
        for (int i = atoi(argv[3]); i > 0; i--) {
                pam_handle_t *pamh;

                if (pam_start_confdir(argv[2], argv[4], &conv, argv[1], &pamh) != PAM_SUCCESS)
                        return 3;
                a = pam_authenticate(pamh, 0);
                b = pam_acct_mgmt(pamh, 0);
                c = pam_setcred(pamh, PAM_ESTABLISH_CRED);
                d = pam_open_session(pamh, 0);
                e = pam_close_session(pamh, 0);
                f = pam_chauthtok(pamh, 0);
                pam_end(pamh, f);
        }
        printf("%d %d %d %d %d %d\n", a, b, c, d, e, f);
        if (argc > 5) {
                static char kept[sizeof(hidden)];

                for (size_t k = 0; strcmp(argv[5], "keep") == 0 && k < sizeof(hidden); k++)
                        kept[k] = (char) ~hidden[k];
                printf("found %d\n", look());
                memset(kept, 0, sizeof(kept));
        }
        return 0;
}
