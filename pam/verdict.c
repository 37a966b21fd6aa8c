/* SPDX-License-Identifier: Apache-2.0 */

/* What PAM hears. The one place where an outcome becomes a PAM number. */

#include "latchkey.h"

int lk_verdict_of_result(enum lk_purpose purpose, enum lk_result r) {
        switch (r) {
        case LK_OK:
                return PAM_SUCCESS;
        case LK_UNAVAILABLE:
                return lk_verdict_of_outcome(purpose, LK_UNREACHABLE);
        case LK_NO_MEMORY:
                return PAM_BUF_ERR;
        case LK_CONVERSATION:
                return PAM_CONV_ERR;
        case LK_LATER:
                return PAM_INCOMPLETE;
        case LK_NO_PASSWORD:
                return purpose == LK_PASSWORD_CHECK || purpose == LK_PASSWORD_CHANGE ? PAM_AUTHTOK_RECOVERY_ERR : PAM_AUTH_ERR;
        case LK_BROKEN:
                break;
        }
        return PAM_SYSTEM_ERR;
}

static int of_authenticate(enum lk_outcome outcome) {
        switch (outcome) {
        case LK_SUCCESS:
                return PAM_SUCCESS;
        case LK_NOT_FOUND:
                return PAM_USER_UNKNOWN;
        case LK_BAD_CREDENTIAL:
        case LK_DISABLED:
        case LK_EXPIRED:
        case LK_MUST_CHANGE:
                return PAM_AUTH_ERR;
        case LK_LOCKED:
        case LK_EXHAUSTED:
                return PAM_MAXTRIES;
        case LK_DENIED:
                return PAM_PERM_DENIED;
        case LK_UNREACHABLE:
                return PAM_AUTHINFO_UNAVAIL;
        default:
                return PAM_SYSTEM_ERR;
        }
}

static int of_account(enum lk_outcome outcome) {
        switch (outcome) {
        case LK_SUCCESS:
                return PAM_SUCCESS;
        case LK_NOT_FOUND:
                return PAM_USER_UNKNOWN;
        case LK_BAD_CREDENTIAL:
        case LK_LOCKED:
        case LK_DISABLED:
        case LK_DENIED:
        case LK_EXHAUSTED:
                return PAM_PERM_DENIED;
        case LK_EXPIRED:
                return PAM_ACCT_EXPIRED;
        case LK_MUST_CHANGE:
                return PAM_NEW_AUTHTOK_REQD;
        case LK_UNREACHABLE:
                return PAM_AUTHINFO_UNAVAIL;
        default:
                return PAM_SYSTEM_ERR;
        }
}

static int of_password(enum lk_purpose purpose, enum lk_outcome outcome) {
        switch (outcome) {
        case LK_SUCCESS:
                return PAM_SUCCESS;
        case LK_NOT_FOUND:
                return PAM_USER_UNKNOWN;
        case LK_BAD_CREDENTIAL:
                return PAM_AUTHTOK_RECOVERY_ERR;
        case LK_LOCKED:
        case LK_DISABLED:
        case LK_EXPIRED:
        case LK_DENIED:
        case LK_EXHAUSTED:
                return PAM_PERM_DENIED;
        case LK_MUST_CHANGE:
                return PAM_AUTHTOK_ERR;
        case LK_UNREACHABLE: /* libpam stops between the two passes on anything but success */
                return purpose == LK_PASSWORD_CHECK ? PAM_TRY_AGAIN : PAM_AUTHTOK_ERR;
        default:
                return PAM_SYSTEM_ERR;
        }
}

int lk_verdict_of_outcome(enum lk_purpose purpose, enum lk_outcome outcome) {
        switch (purpose) {
        case LK_AUTHENTICATE:
                return of_authenticate(outcome);
        case LK_ACCOUNT:
                return of_account(outcome);
        case LK_PASSWORD_CHECK:
        case LK_PASSWORD_CHANGE:
                return of_password(purpose, outcome);
        }
        return PAM_SYSTEM_ERR;
}
