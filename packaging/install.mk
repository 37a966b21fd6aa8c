# SPDX-License-Identifier: Apache-2.0
#
# What goes where on Debian. Included by the Makefile at the top, from where the
# paths count. DESTDIR and PREFIX as usual; /etc, /lib/systemd, the multiarch
# directory of the C library and of PAM, and PAM's profiles do not follow PREFIX,
# since their readers look nowhere else.

MULTIARCH = $(shell $(CC) -print-multiarch)
NSSDIR = $(DESTDIR)/usr/lib/$(MULTIARCH)
UNITDIR = $(DESTDIR)/lib/systemd/system
INSTALL_BIN = install -D -m 0755
INSTALL_FILE = install -D -m 0644

install: build ## into DESTDIR and PREFIX; makes the system accounts when DESTDIR is empty
	$(INSTALL_BIN) build/latchkeyd $(DESTDIR)$(PREFIX)/sbin/latchkeyd
	$(INSTALL_BIN) build/latchkey $(DESTDIR)$(PREFIX)/bin/latchkey
	$(INSTALL_BIN) build/latchkey-pam-check $(DESTDIR)/usr/lib/latchkey/latchkey-pam-check
	$(INSTALL_FILE) build/libnss_latchkey.so.2 $(NSSDIR)/libnss_latchkey.so.2
	$(INSTALL_FILE) build/pam_latchkey.so $(NSSDIR)/security/pam_latchkey.so
	for profile in packaging/pam/*; do $(INSTALL_FILE) $$profile $(DESTDIR)/usr/share/pam-configs/$$(basename $$profile); done
	$(INSTALL_FILE) packaging/pam.d/latchkey-web $(DESTDIR)/etc/pam.d/latchkey-web
	for unit in packaging/systemd/*; do $(INSTALL_FILE) $$unit $(UNITDIR)/$$(basename $$unit); done
	$(INSTALL_FILE) packaging/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/latchkey.conf
	$(INSTALL_FILE) packaging/tmpfiles.conf $(DESTDIR)/usr/lib/tmpfiles.d/latchkey.conf
	install -d -m 0755 $(DESTDIR)/etc/latchkey
	$(INSTALL_FILE) packaging/logrotate/latchkey $(DESTDIR)/etc/logrotate.d/latchkey
	$(INSTALL_FILE) packaging/apparmor/nameservice.d-latchkey $(DESTDIR)/etc/apparmor.d/abstractions/nameservice.d/latchkey
	$(INSTALL_FILE) build/latchkey.toml.example $(DESTDIR)$(PREFIX)/share/doc/latchkey/examples/latchkey.toml
	$(INSTALL_FILE) packaging/web/nginx-latchkey.conf $(DESTDIR)$(PREFIX)/share/doc/latchkey/examples/nginx-latchkey.conf
	$(INSTALL_FILE) packaging/web/Caddyfile $(DESTDIR)$(PREFIX)/share/doc/latchkey/examples/Caddyfile
	$(INSTALL_BIN) packaging/entra/register-app.sh $(DESTDIR)$(PREFIX)/share/doc/latchkey/examples/register-app.sh
	for file in packaging/examples/*; do $(INSTALL_FILE) $$file $(DESTDIR)$(PREFIX)/share/doc/latchkey/examples/$$(basename $$file); done
# The API for authors of apps, without PAM's own. Debian 12's protoc does not know
# debug_redact, which changes nothing on the wire.
	for file in admin identity login machine sso; do \
	  sed 's/ \[debug_redact = true\]//' proto/latchkey/v1/$$file.proto | \
	    $(INSTALL_FILE) /dev/stdin $(DESTDIR)$(PREFIX)/share/latchkey/proto/latchkey/v1/$$file.proto; done
	for page in admin apps entra samba security ssh web; do $(INSTALL_FILE) docs/$$page.md $(DESTDIR)$(PREFIX)/share/doc/latchkey/$$page.md; done
	$(INSTALL_FILE) LICENSE $(DESTDIR)$(PREFIX)/share/doc/latchkey/copyright
	for page in build/man/*; do $(INSTALL_FILE) $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$(basename $$page); done
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	build/latchkey completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/latchkey
	[ -n "$(DESTDIR)" ] || packaging/accounts.sh
	[ -n "$(DESTDIR)" ] || ldconfig

packages: root ## the Debian package into build/
	rm -f build/latchkey_*.deb
	packaging/deb/build.sh $(CURDIR)/build/root $(VERSION) build
