/* SPDX-License-Identifier: Apache-2.0 */

/* A module that stands beside ours in a test's stack. set=TEXT leaves TEXT as the
 * password, show shows what password there is. */

#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <string.h>

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        const void *value = NULL;

        (void) flags;
        for (int i = 0; i < argc; i++) {
                if (strncmp(argv[i], "set=", 4) == 0)
                        return pam_set_item(pamh, PAM_AUTHTOK, argv[i] + 4);
                if (strcmp(argv[i], "show") == 0 && pam_get_item(pamh, PAM_AUTHTOK, &value) == PAM_SUCCESS)
                        return pam_info(pamh, "authtok=%s", value ? (const char *) value : "none");
        }
        return PAM_SYSTEM_ERR;
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv) {
        (void) pamh;
        (void) flags;
        (void) argc;
        (void) argv;
        return PAM_SUCCESS;
}
