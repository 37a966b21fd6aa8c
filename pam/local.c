/* SPDX-License-Identifier: Apache-2.0 */

/* Whose name is it? NSS cannot tell, for it answers from us as well. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

#define PASSWD LK_SETTING("PASSWD", "/etc/passwd")

#ifdef LATCHKEY_TEST
const char *lk_setting(const char *name, const char *otherwise) {
        const char *value = getenv(name);

        return value ? value : otherwise;
}
#endif

int lk_is_local(const char *name) {
        size_t size = strlen(name), room = 0;
        char *line = NULL;
        int found = 0;
        FILE *f;

        /* Also when a process has run out of descriptors: root is of this box. */
        if (strcmp(name, "root") == 0)
                return 1;
        if (size == 0 || strpbrk(name, ":\n"))
                return 0;
        f = fopen(PASSWD, "re");
        if (!f)
                return -1;
        while (!found && getline(&line, &room, f) > 0)
                found = strncmp(line, name, size) == 0 && line[size] == ':';
        if (!found && ferror(f))
                found = -1;
        free(line);
        fclose(f);
        return found;
}
