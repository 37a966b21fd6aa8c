/* SPDX-License-Identifier: Apache-2.0 */

/* Whether the host wants to hear from us, and how an outcome is told to NSS. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "latchkey.h"

static bool bypassed, winbindd_itself;

/* systemd sets these for a service that NSS must not wait for, dbus-daemon being
 * the first of them. They are read once: a service does not change its mind. */
__attribute__((constructor)) static void read_bypass(void) {
        static const char *const names[] = {"SYSTEMD_NSS_DYNAMIC_BYPASS", "SYSTEMD_NSS_BYPASS_SYNTHETIC"};
        static const char *const yes[] = {"1", "yes", "y", "true", "t", "on"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                const char *value = secure_getenv(names[i]);

                for (size_t k = 0; value && k < sizeof(yes) / sizeof(yes[0]); k++)
                        if (strcasecmp(value, yes[k]) == 0)
                                bypassed = true;
        }
        winbindd_itself = strcasecmp(program_invocation_short_name, "winbindd") == 0;
}

/* smbd and Samba's tools set _NO_WINBINDD=1 around calls that are to see local
 * accounts only, so it is read at every call. winbindd sets it for good, lest it
 * ask itself: we are not it, and its idmap backend "nss" is there to ask us. */
bool lk_excluded(void) {
        const char *value;

        if (bypassed)
                return true;
        if (winbindd_itself)
                return false;
        value = secure_getenv("_NO_WINBINDD");
        return value && value[0] == '1' && value[1] == '\0';
}

/* LK_ABSENT says that we know and there is nobody. What we do not know is
 * UNAVAIL with EAGAIN, upon which nscd keeps what it has. */
enum nss_status lk_answer(enum lk_outcome outcome, int *errnop) {
        switch (outcome) {
        case LK_FOUND:
                return NSS_STATUS_SUCCESS;
        case LK_ABSENT:
                *errnop = ENOENT;
                return NSS_STATUS_NOTFOUND;
        case LK_SMALL:
                *errnop = ERANGE;
                return NSS_STATUS_TRYAGAIN;
        case LK_NO_MEMORY:
                *errnop = ENOMEM;
                return NSS_STATUS_TRYAGAIN;
        case LK_BROKEN:
        case LK_UNAVAILABLE:
                break;
        }
        *errnop = EAGAIN;
        return NSS_STATUS_UNAVAIL;
}
