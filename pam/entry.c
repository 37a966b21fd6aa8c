/* SPDX-License-Identifier: Apache-2.0 */

/* What PAM calls. Every call begins alike: who is it, and is that a name of this
 * box? Then the answer is PAM_IGNORE, before any socket is opened. */

#include <string.h>
#include <syslog.h>

#include <security/pam_ext.h>

#include "latchkey.h"

LK_PUBLIC int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv);
LK_PUBLIC int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv);
LK_PUBLIC int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv);
LK_PUBLIC int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv);
LK_PUBLIC int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv);
LK_PUBLIC int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv);

static struct lk_options read_options(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        struct lk_options o = {.silent = ((unsigned) flags & PAM_SILENT) != 0};

        for (int i = 0; i < argc; i++) {
                if (strcmp(argv[i], "use_first_pass") == 0)
                        o.use_first_pass = true;
                else if (strcmp(argv[i], "try_first_pass") == 0)
                        o.try_first_pass = true;
                else if (strcmp(argv[i], "use_authtok") == 0)
                        o.use_authtok = true;
                else
                        pam_syslog(pamh, LOG_ERR, "unknown option: %s", argv[i]);
        }
        return o;
}

/* PAM_SUCCESS: the name may be one of ours. What cannot be found out is refused,
 * but for root, who is known without looking. */
static int who(pam_handle_t *pamh, const char **ret) {
        int r = pam_get_user(pamh, ret, NULL);

        if (r != PAM_SUCCESS)
                return r == PAM_CONV_AGAIN ? PAM_INCOMPLETE : r;
        if (!*ret || **ret == '\0' || strlen(*ret) > LK_MAX_NAME)
                return PAM_USER_UNKNOWN;
        r = lk_is_local(*ret);
        if (r < 0) {
                pam_syslog(pamh, LOG_ERR, "cannot read /etc/passwd: %m");
                return PAM_SYSTEM_ERR;
        }
        return r > 0 ? PAM_IGNORE : PAM_SUCCESS;
}

/* One conversation. Once the account is said to be in order, PAM_USER is the
 * published name, which can never be one of this box. Not before: OpenSSH from 10.1
 * on refuses everybody whose PAM_USER changes while they authenticate. */
static int talk(pam_handle_t *pamh, enum lk_purpose purpose, const char *name, const struct lk_options *o, struct lk_ending *ret) {
        enum lk_result r = lk_talk(pamh, purpose, name, o, ret);
        int verdict;

        if (r == LK_BROKEN)
                pam_syslog(pamh, LOG_ERR, "the daemon does not speak as latchkeyd does");
        if (r != LK_OK)
                return lk_verdict_of_result(purpose, r);
        verdict = lk_verdict_of_outcome(purpose, ret->outcome);
        if (verdict != PAM_SUCCESS || ret->name[0] == '\0')
                return verdict;
        if (lk_is_local(ret->name) != 0)
                return PAM_SYSTEM_ERR;
        if (purpose == LK_ACCOUNT && strcmp(ret->name, name) != 0)
                verdict = pam_set_item(pamh, PAM_USER, ret->name);
        return verdict;
}

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        struct lk_options o = read_options(pamh, flags, argc, argv);
        struct lk_ending e = {0};
        const char *name;
        int r = who(pamh, &name);

        if (r != PAM_SUCCESS)
                return r;
        r = talk(pamh, LK_AUTHENTICATE, name, &o, &e);
        if (r == PAM_SUCCESS && !lk_ccache_keep(pamh, &e))
                pam_syslog(pamh, LOG_WARNING, "cannot keep the tickets: %m");
        lk_ending_free(&e);
        return r;
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        const char *name;
        int r = who(pamh, &name);

        (void) argc;
        (void) argv;
        if ((unsigned) flags & PAM_DELETE_CRED) {
                lk_ccache_discard(pamh);
                lk_ccache_remove(pamh);
        } else if (r == PAM_SUCCESS)
                lk_ccache_settle(pamh, name);
        else /* sudo: it was alice who signed in, and it is root who goes on */
                lk_ccache_discard(pamh);
        return r;
}

/* Never needs what authenticate did: a key or a ticket may have come instead. */
int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        struct lk_options o = read_options(pamh, flags, argc, argv);
        struct lk_ending e = {0};
        const char *name;
        int r = who(pamh, &name);

        if (r == PAM_SUCCESS) {
                r = talk(pamh, LK_ACCOUNT, name, &o, &e);
                if (r != PAM_SUCCESS && r != PAM_NEW_AUTHTOK_REQD)
                        lk_ccache_discard(pamh);
        }
        lk_ending_free(&e);
        return r;
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        const char *name;
        int r = who(pamh, &name);

        (void) flags;
        (void) argc;
        (void) argv;
        if (r == PAM_SUCCESS)
                lk_ccache_settle(pamh, name);
        return r;
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        const char *name;
        int r = who(pamh, &name);

        (void) flags;
        (void) argc;
        (void) argv;
        if (r == PAM_SUCCESS)
                lk_ccache_remove(pamh);
        return r;
}

int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        struct lk_options o = read_options(pamh, flags, argc, argv);
        struct lk_ending e = {0};
        const char *name;
        int r = who(pamh, &name);

        if (r == PAM_SUCCESS)
                r = talk(pamh, ((unsigned) flags & PAM_PRELIM_CHECK) != 0 ? LK_PASSWORD_CHECK : LK_PASSWORD_CHANGE, name, &o, &e);
        lk_ending_free(&e);
        return r;
}
