# SPDX-License-Identifier: Apache-2.0
#
# How the PAM module is compiled. Included by the Makefile at the top, from where
# the paths count; the tests of pam/ run it alone: make -f pam/build.mk PAM_OUT=...

PAM_OUT ?= build/pam_latchkey.so
PAM_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
PAM_SOURCES := $(addprefix $(PAM_DIR),ccache.c door.c entry.c local.c talk.c verdict.c wire.c)
PAM_CFLAGS := -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wall -Wextra -Werror -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
PAM_LDFLAGS := -shared -Wl,-soname,pam_latchkey.so -Wl,--version-script=$(PAM_DIR)latchkey.map \
	-Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,-z,noexecstack -Wl,--as-needed

$(PAM_OUT): $(PAM_SOURCES) $(wildcard $(PAM_DIR)*.h) $(PAM_DIR)latchkey.map $(PAM_DIR)build.mk
	@mkdir -p $(dir $@)
	$(CC) $(CPPFLAGS) $(PAM_CFLAGS) $(CFLAGS) $(PAM_LDFLAGS) $(LDFLAGS) -o $@ $(PAM_SOURCES) -lpam
