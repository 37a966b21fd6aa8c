# SPDX-License-Identifier: Apache-2.0
#
# How the NSS module is compiled. Included by the Makefile at the top, from where
# the paths count; the tests of nss/ run it alone: make -f nss/build.mk OUT=...

NSS_OUT ?= build/libnss_latchkey.so.2
NSS_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
NSS_SOURCES := $(addprefix $(NSS_DIR),answer.c find.c group.c key.c mapping.c passwd.c view.c)
NSS_CFLAGS := -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wall -Wextra -Werror -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
NSS_LDFLAGS := -shared -Wl,-soname,libnss_latchkey.so.2 -Wl,--version-script=$(NSS_DIR)latchkey.map \
	-Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,-z,nodelete -Wl,-z,noexecstack -Wl,--as-needed

$(NSS_OUT): $(NSS_SOURCES) $(wildcard $(NSS_DIR)*.h) $(NSS_DIR)latchkey.map $(NSS_DIR)build.mk
	@mkdir -p $(dir $@)
	$(CC) $(CPPFLAGS) $(NSS_CFLAGS) $(CFLAGS) $(NSS_LDFLAGS) $(LDFLAGS) -o $@ $(NSS_SOURCES)
