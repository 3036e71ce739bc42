# `make run` and `make test` are all that anyone has to type; `make help` lists the rest.
# Each target gets what it needs beyond Rust and make by itself, and says so first.
#
#   ARGS    the command to run in the container, as the shell reads it (default: an interactive shell);
#           for the tests, the name of those to run (default: all)
#   OPTS    husk's options before the root file system, such as OPTS="--memory 64m --explain"
#   ROOTFS  the root file system's directory
#   IMAGE   a docker image to take it from, such as IMAGE=python:3.12-alpine
#   SUDO    how to become root; `make run SUDO=` runs rootless

SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
HOST := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(shell uname -m)-unknown-linux-gnu)
PREFIX = /usr/local

# One static file that runs anywhere, and starts faster. cargo must be told the target though it is
# this machine's own: without it, the flag would break procedural macros, which are shared libraries.
export CARGO_BUILD_TARGET := $(HOST)
export CARGO_TARGET_DIR := $(CURDIR)/target
export RUSTFLAGS += -C target-feature=+crt-static
export SUDO ROOTFS IMAGE

HUSK      = target/$(HOST)/release/husk
HUSK_DEV  = target/$(HOST)/debug/husk
HUSK_OCI  = target/oci/$(HOST)/release/husk
HUSK_ASAN = target/asan/$(HOST)/debug/husk

NEED = rootfs-scripts/need.sh
TEST_TOOLS = cc:build-essential ip:iproute2 iptables strace ps:procps ping:iputils-ping \
	unshare:util-linux python3 mmdebstrap

# $(call run,BINARY): a container. A user without sudo gets a rootless one.
define run
@rootfs=$$(rootfs-scripts/pick.sh) || exit; \
[ -n "$(SUDO)" ] || [ "$$(id -u)" = 0 ] || echo "no root and no sudo: running rootless" >&2; \
set -x; exec $(SUDO) $(1) run $(value OPTS) "$$rootfs" $(value ARGS)
endef

# $(call test,BINARY,LOG): cargo, as the user, builds the tests and has them run as root.
define test
@[ -n "$(SUDO)" ] || [ "$$(id -u)" = 0 ] || \
	{ echo "the tests need root or sudo; 'make test-vm' does not" >&2; exit 1; }
@$(NEED) $(TEST_TOOLS)
@$(SUDO) docker version >/dev/null 2>&1 || $(NEED) podman
@rm -f $(2)
HUSK="$(CURDIR)/$(1)" HUSK_TEST_LOG="$(CURDIR)/$(2)" $(RUNNER) cargo test --no-fail-fast $(3) $(value ARGS)
@tests/ran-check.sh $(2)
endef
RUNNER = $(if $(SUDO),CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER="$(SUDO) -E")

.PHONY: build run dev dev-valgrind test test-oci test-vm vm lint asan bench soak oci install clean help
.DELETE_ON_ERROR:

build: ## the release binary (default)
	@command -v cargo >/dev/null || { echo "no cargo here: install Rust, and run make as yourself" \
		"rather than with sudo, which it calls where it needs to" >&2; exit 1; }
	@set -x; cargo build --release

# make itself exits with 2 whenever a command fails; the command's own status is in its last line.
run: build ## a container: ARGS="command" OPTS="--memory 64m" ROOTFS=dir IMAGE=name
	$(call run,$(HUSK))

dev: ## the same with a debug build
	@set -x; cargo build
	$(call run,$(HUSK_DEV))

dev-valgrind: $(HUSK_ASAN) ## the same with a build that checks memory use
	@echo "valgrind answers clone3 with ENOSYS, so this is AddressSanitizer instead" >&2
	$(call run,$(HUSK_ASAN))

test: build ## all tests, as root, each in host namespaces of its own
	$(call test,$(HUSK),target/ran-host.log)

test-oci: ## the tests of the appendix
	$(call test,$(HUSK),target/ran-oci.log,--features oci --test 'oci*')

# Emulated, it is some 60 times slower: so it runs what `make test` had to skip, or ARGS=names.
test-vm: build ## the same test programs in a virtual machine, for what this kernel can't show
	@rm -f target/ran-vm.log
	@HUSK="$(CURDIR)/$(HUSK)" HUSK_TEST_LOG="$(CURDIR)/target/ran-vm.log" tests/vm.sh test --exact \
		$(or $(value ARGS),$$(sed -n 's/^SKIP .*::\([a-z0-9_]*\): .*/\1/p' target/ran-host.log))
	@tests/ran-check.sh target/ran-host.log target/ran-vm.log

vm: build ## a shell in that virtual machine, to break things safely
	@HUSK="$(CURDIR)/$(HUSK)" tests/vm.sh shell

# husk frees nothing at its end. And the search for leaks, which needs a /proc that knows the process,
# waits for ever where exec has joined a container's namespaces.
asan dev-valgrind: export ASAN_OPTIONS = detect_leaks=0
asan: $(HUSK_ASAN) ## all tests on a build under AddressSanitizer
	$(call test,$(HUSK_ASAN),target/ran-asan.log)

# AddressSanitizer is a nightly flag, and its library can't be linked statically.
.PHONY: $(HUSK_ASAN)
$(HUSK_ASAN):
	@rustup toolchain list 2>/dev/null | grep -q ^nightly || { echo "AddressSanitizer needs Rust's" \
		"nightly toolchain (a stable one refuses -Z): rustup toolchain install nightly" >&2; exit 1; }
	@set -x; RUSTFLAGS="-Z sanitizer=address" cargo +nightly build --target-dir target/asan

lint: ## formatting, clippy, shellcheck, and the size of lines, functions and sources
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@! grep -q '^oci *=' Cargo.toml || (set -x; cargo clippy --all-targets --features oci -- -D warnings)
	@$(NEED) shellcheck
	shellcheck -x -P SCRIPTDIR rootfs-scripts/*.sh tests/*.sh .ci/run
	@tests/lint.sh

bench: build ## start times and memory beside other runtimes
	@$(NEED) hyperfine ip:iproute2 iptables python3
	@$(SUDO) env HUSK="$(CURDIR)/$(HUSK)" tests/bench.sh

soak: build ## 70,000 starts in a row
	@$(NEED) ip:iproute2 iptables python3
	@$(SUDO) env HUSK="$(CURDIR)/$(HUSK)" tests/soak.sh

# Not position-independent: to relocate so big a program would be a tenth of `husk-oci run`.
oci: export RUSTFLAGS += -C relocation-model=static
oci: ## husk-oci, the appendix: an OCI runtime for podman, docker and containerd
	cargo build --release --features oci --target-dir target/oci
	ln -sf husk $(HUSK_OCI)-oci

install: ## husk, and husk-oci if `make oci` built it, below PREFIX (/usr/local)
	@[ -x $(HUSK) ] || $(MAKE) build
	@bin="$(DESTDIR)$(PREFIX)/bin"; sudo=; \
	mkdir -p "$$bin" 2>/dev/null && [ -w "$$bin" ] || sudo="$(SUDO)"; \
	set -ex; \
	if [ -x $(HUSK_OCI) ]; then \
		$$sudo install -D -m 755 $(HUSK_OCI) "$$bin/husk"; \
		$$sudo ln -sf husk "$$bin/husk-oci"; \
	else \
		$$sudo install -D -m 755 $(HUSK) "$$bin/husk"; \
	fi

clean: ## everything that was built or unpacked (target/)
	@rm -rf --one-file-system target 2>/dev/null || (set -x; $(SUDO) rm -rf --one-file-system target)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
	@sed -n '/^#   /s/^#/  /p' Makefile
