/* SPDX-License-Identifier: Apache-2.0 */

/* Says for every name on standard input whether there is such a user.
 *
 *      who PATH PERIOD
 *
 * PERIOD is after how many milliseconds the module looks at the path again. */

#include "harness.h"

int main(int argc, char **argv) {
        char name[256], buffer[8192];
        struct passwd p;
        int e;

        if (argc != 3)
                return 2;
        lk_test_path = argv[1];
        lk_test_owner = getuid();
        lk_test_period_ms = strtoull(argv[2], NULL, 10);
        while (scanf("%255s", name) == 1) {
                switch (_nss_latchkey_getpwnam_r(name, &p, buffer, sizeof(buffer), &e)) {
                case NSS_STATUS_SUCCESS:
                        printf("%s found\n", p.pw_name);
                        break;
                case NSS_STATUS_NOTFOUND:
                        printf("%s absent\n", name);
                        break;
                default:
                        printf("%s unavailable\n", name);
                }
                fflush(stdout);
        }
        return 0;
}
