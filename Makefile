# SPDX-License-Identifier: Apache-2.0
#
# latchkey: build, test, show. `make help` lists what there is.
#
# A bare Debian 12 with root, make and apt is enough: what a target needs, it
# installs. Variables:
#   DESTDIR=  PREFIX=/usr       where `make install` puts things
#   VERSION=                    what --version says; from git where it can
#   TEST=                       a test name pattern for unit, test and nightly
#   LATCHKEY_CACHE=             where the toolchain and the lab base are kept

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO_VERSION := 1.26.8
PREFIX ?= /usr
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
TEST ?= .

export GOTOOLCHAIN := local
# Resolved at first use, so that `make help` fetches nothing.
GO = $(eval GO := $(shell internal/tools/toolchain.sh $(GO_VERSION)))$(if $(GO),$(GO),$(error no Go $(GO_VERSION)))
export PATH := $(PATH):/usr/local/go/bin
GOPATHED = PATH="$(dir $(GO)):$(CURDIR)/build/tools:$$PATH"

GO_LDFLAGS := -s -w -X github.com/latchkey-nas/latchkey/internal/release.Version=$(VERSION)
GOSUM = $(GOPATHED) build/tools/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg
# What fails is run once more, for two dozen machines on two cores miss a time limit
# now and then. Both runs are printed; many failures are not run again.
AGAIN := --rerun-fails=1 --rerun-fails-max-failures=8 --rerun-fails-run-root-test

# The host gets compilers and debootstrap, nothing else; everything that runs
# (Samba, sshd, the peers) lives in the lab's own base.
COMPILERS := gcc libc6-dev libpam0g-dev
CHECKERS := valgrind
LABHOST := debootstrap
need = @internal/tools/need.sh $(1)

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile packaging/install.mk

## --- build ---

build: daemon modules docs-gen ## everything into build/

daemon: compilers | build/ ## latchkeyd and latchkey, and the one program that is linked with libpam
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(GO_LDFLAGS)' -o build/ ./cmd/latchkeyd ./cmd/latchkey
	CGO_ENABLED=1 $(GO) build -trimpath -tags netgo,osusergo -ldflags '$(GO_LDFLAGS)' -o build/ ./cmd/latchkey-pam-check

include nss/build.mk
include pam/build.mk
modules: compilers $(NSS_OUT) $(PAM_OUT) ## the C modules
# Their headers are Debian packages, which have to be there first.
$(NSS_OUT) $(PAM_OUT): | compilers

docs-gen: | build/ ## man pages and the example config, from the program's own tables
	rm -rf build/man
	CGO_ENABLED=0 $(GO) run -tags docs ./cmd/latchkey build
	cp packaging/man/* build/man/

compilers:
	$(call need,$(COMPILERS))

build/:
	mkdir -p build

include packaging/install.mk

## --- tools ---

tools: build/tools/.stamp ## linters and generators, at the versions that internal/tools pins
build/tools/.stamp: internal/tools/go.mod internal/tools/go.sum go.mod
	mkdir -p build/tools
	cd internal/tools && $(GO) build -o $(CURDIR)/build/tools/ tool
	$(GO) build -o build/tools/ google.golang.org/protobuf/cmd/protoc-gen-go
	touch $@

build/tools/gotestsum: internal/tools/go.sum
	mkdir -p build/tools
	cd internal/tools && $(GO) build -o $(CURDIR)/build/tools/ gotest.tools/gotestsum

generate: tools ## Go from proto/, the C header from the snapshot layout, man pages
	build/tools/buf generate
	$(GOPATHED) $(GO) generate ./...

## --- checks ---

lint: tools compilers ## formatting, vet, staticcheck, API lint and breaking changes, generated code current
	@bad=$$(git ls-files '*.go' | grep -v '\.pb\.go$$' | xargs $(dir $(GO))gofmt -l); \
	  if [ -n "$$bad" ]; then echo "gofmt would change:" $$bad; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags lab ./...
	$(GO) vet -tags docs ./cmd/latchkey
	$(GOPATHED) build/tools/staticcheck -tags lab ./...
	build/tools/buf lint
	build/tools/buf breaking --against proto/baseline.binpb
	$(MAKE) --no-print-directory generated-current
	@echo "lint: passed"

generated-current: tools
	rm -rf build/generated && mkdir -p build/generated
	build/tools/buf generate -o build/generated
	@for f in $$(cd build/generated && find . -name '*.go'); do \
	  cmp -s "build/generated/$$f" "$$f" || { echo "$$f is not current: run make generate"; exit 1; }; done

unit: checkers build/tools/gotestsum ## tests that need no root and no network (under 3 min)
	$(GOSUM) $(AGAIN) --packages=./... -- -run '$(TEST)'

test: checkers lint unit lab-test ## every test there is, as root, from a bare machine (under 45 min)
	@echo "make test: all suites passed"

checkers: compilers
	$(call need,$(CHECKERS))

# One package after the other: the machine's cores are the lab's. What is under
# test is what `make install` installs, in build/root.
lab-test: build/tools/gotestsum root base ## stories against a real Samba AD, sshd and glibc
	packages=$$(grep -rl --include='*_lab_test.go' '^//go:build lab' internal nss pam cmd | xargs -n1 dirname | sort -u | sed 's,^,./,' | xargs); \
	$(GOSUM) $(AGAIN) --packages="$$packages" -- -tags lab -p 1 -count=1 -timeout 40m -run '$(TEST)'

nightly: build/tools/gotestsum root base ## the long forms: fuzzing, soak, 100,000 users, Debian 13 (hours)
	export LATCHKEY_NIGHTLY=1 LATCHKEY_KILLS=200 LATCHKEY_HISTORIES=2000; $(GOSUM) -- -tags lab -p 1 -count=1 -timeout 0 -run '$(TEST)' ./...
	GO=$(GO) internal/tools/fuzz.sh 10m

## --- the lab, the demo, the benchmark ---

labctl: | build/
	CGO_ENABLED=0 $(GO) build -o build/labctl ./internal/lab/labctl

base: labctl ## the Debian that the lab's machines are made of (once; minutes)
	$(call need,$(LABHOST))
	build/labctl base

root: build ## the product as `make install` lays it out, in build/root
	rm -rf build/root.new build/root.old
	$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/root.new PREFIX=/usr
	[ ! -e build/root ] || mv build/root build/root.old
	mv build/root.new build/root && rm -rf build/root.old

demo: labctl root ## from a bare machine to a running domain with a joined NAS, and a tour
	$(call need,$(LABHOST))
	CGO_ENABLED=0 $(GO) build -o build/demo ./internal/demo
	build/demo

demo-down: ## remove every trace of the demo
	CGO_ENABLED=0 $(GO) build -o build/demo ./internal/demo
	build/demo down

pictures: demo-down demo ## the README's terminal recording, from the demo as it runs now
	build/demo picture

bench: root base ## the figures of docs/benchmarks.md, beside the peers, in one run
	CGO_ENABLED=0 $(GO) build -o build/latchkey-bench ./internal/bench
	build/latchkey-bench

clean: ## build/
	rm -rf build

clean-lab: ## the cached Debian and domains of the lab
	rm -rf $${LATCHKEY_LAB_CACHE:-/var/cache/latchkey-lab}

.PHONY: docs-gen help build daemon modules compilers docs-gen tools generate generated-current lint unit test lab-test nightly \
	checkers labctl base root install demo demo-down pictures bench packages clean clean-lab
