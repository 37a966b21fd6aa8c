/* SPDX-License-Identifier: Apache-2.0 */

/* What the test programs share. They are compiled together with the module's
 * own sources, with sanitizers or without. */

#pragma once

#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../latchkey.h"

enum nss_status _nss_latchkey_getpwnam_r(const char *, struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_getpwuid_r(uid_t, struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_setpwent(int);
enum nss_status _nss_latchkey_getpwent_r(struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_endpwent(void);
enum nss_status _nss_latchkey_getgrnam_r(const char *, struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_getgrgid_r(gid_t, struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_setgrent(int);
enum nss_status _nss_latchkey_getgrent_r(struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_endgrent(void);
enum nss_status _nss_latchkey_initgroups_dyn(const char *, gid_t, long *, long *, gid_t **, long, int *);

#define FAIL(...)                                                                                                                                    \
        do {                                                                                                                                         \
                fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                                      \
                fprintf(stderr, __VA_ARGS__);                                                                                                        \
                fputc('\n', stderr);                                                                                                                 \
                _exit(1);                                                                                                                            \
        } while (0)

#define BASE 100000001U
