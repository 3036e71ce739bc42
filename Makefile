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
	unshare:util-linux python3 mmdebstrap git
# Where these can't be had, tests say what they left out.
TEST_EXTRAS = podman skopeo fakechroot fakeroot sudo tmux script:bsdutils

# Those that go by a path have no command.
ENGINES = containerd ctr:containerd /usr/lib/cni/bridge:containernetworking-plugins \
	/usr/lib/python3/dist-packages/grpc:python3-grpcio dockerd:docker.io docker:docker.io \
	podman conmon runc

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
@$(NEED) -k $(TEST_EXTRAS)
@rm -f $(2)
HUSK="$(CURDIR)/$(1)" HUSK_TEST_LOG="$(CURDIR)/$(2)" $(RUNNER) cargo test --no-fail-fast $(3) $(value ARGS)
@tests/ran-check.sh $(2)
endef
RUNNER = $(if $(SUDO),CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER="$(SUDO) -E")

.PHONY: build run dev dev-valgrind test test-oci test-vm test-oci-vm vm lint asan bench soak oci install uninstall \
	dist clean help
.DELETE_ON_ERROR:

define cargo
@command -v cargo >/dev/null || { echo "no cargo here: install Rust, and run make as yourself" \
	"rather than with sudo, which it calls where it needs to" >&2; exit 1; }
endef

build: ## the release binary (default)
	$(cargo)
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

test-oci: ## the tests of the appendix, real engines among them
	@$(NEED) -k $(ENGINES)
	$(call test,$(HUSK),target/ran-oci.log,--features oci --test 'oci*' --test install)

# Emulated, it is some 60 times slower: so it runs what `make test` had to skip, or ARGS=names.
test-vm: build ## the same test programs in a virtual machine, for what this kernel can't show
	@rm -f target/ran-vm.log
	@HUSK="$(CURDIR)/$(HUSK)" HUSK_TEST_LOG="$(CURDIR)/target/ran-vm.log" tests/vm.sh test --exact \
		$(or $(value ARGS),$$(sed -n 's/^SKIP .*::\([a-z0-9_]*\): .*/\1/p' target/ran-host.log))
	@tests/ran-check.sh target/ran-host.log target/ran-vm.log

test-oci-vm: build ## those of the appendix in there
	@rm -f target/ran-oci-vm.log
	@HUSK="$(CURDIR)/$(HUSK)" HUSK_TEST_LOG="$(CURDIR)/target/ran-oci-vm.log" VM_MEMORY=4G \
		VM_TOOLS="$(ENGINES)" VM_CARGO="--features oci --test oci*" \
		tests/vm.sh test --exact \
		$(or $(value ARGS),$$(sed -n 's/^SKIP .*::\([a-z0-9_]*\): .*/\1/p' target/ran-oci.log))
	@tests/ran-check.sh target/ran-oci.log target/ran-oci-vm.log

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

bench: build ## start times and memory beside other runtimes: BASE=path of an older husk
	@$(NEED) ip:iproute2 iptables python3
	@$(SUDO) env HUSK="$(CURDIR)/$(HUSK)" BASE="$(BASE)" tests/bench.sh

soak: build ## 70,000 starts in a row
	@$(NEED) ip:iproute2 iptables python3
	@$(SUDO) env HUSK="$(CURDIR)/$(HUSK)" tests/soak.sh

# Not position-independent: to relocate so big a program would be a tenth of `husk-oci run`.
oci: export RUSTFLAGS += -C relocation-model=static
oci: ## husk-oci, the appendix: an OCI runtime for podman, docker and containerd
	$(cargo)
	cargo build --release --features oci --bin husk --target-dir target/oci
	ln -sf husk $(HUSK_OCI)-oci

# Whoever has called `make oci`, now or before, wants it to come along.
WITH_OCI = $(or $(filter oci,$(MAKECMDGOALS)),$(wildcard $(HUSK_OCI)))
BUILD    = $(if $(WITH_OCI),oci,build)
BUILT    = $(if $(WITH_OCI),$(HUSK_OCI),$(HUSK))
SCRIPTS  = busybox.sh common.sh debian.sh docker.sh pack.sh

# Where to, and how to become who may write there.
define destination
@to="$(DESTDIR)$(PREFIX)"; sudo=; \
mkdir -p "$$to/bin" "$$to/share" 2>/dev/null && [ -w "$$to/bin" ] && [ -w "$$to/share" ] || sudo="$(SUDO)"
endef

install: $(BUILD) ## husk and rootfs-scripts/ below PREFIX (/usr/local); `make oci install`: husk-oci too
	$(destination); set -ex; \
	$$sudo install -D -m 755 $(BUILT) "$$to/bin/husk"; \
	$$sudo rm -f "$$to/bin/husk-oci"; \
	$(if $(WITH_OCI),$$sudo ln -s husk "$$to/bin/husk-oci";) \
	$$sudo install -d "$$to/share/husk/rootfs-scripts"; \
	$$sudo install -m 755 $(SCRIPTS:%=rootfs-scripts/%) "$$to/share/husk/rootfs-scripts"

uninstall: ## takes away what `make install` has put there
	$(destination); set -ex; \
	$$sudo rm -f "$$to/bin/husk" "$$to/bin/husk-oci" $(SCRIPTS:%="$$to/share/husk/rootfs-scripts/%"); \
	for dir in "$$to/share/husk/rootfs-scripts" "$$to/share/husk"; do \
		[ ! -d "$$dir" ] || $$sudo rmdir --ignore-fail-on-non-empty "$$dir"; \
	done
	@[ -n "$(DESTDIR)" ] || [ ! -e /sys/class/net/husk0 ] || \
		echo "the bridge husk0 and its iptables rules stay until this machine's next start"

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
DIST    = husk-$(VERSION)-$(firstword $(subst -, ,$(HOST)))-linux

# The same sources give the same tar: in order, without owners, and as old as the last commit.
dist: $(BUILD) ## target/dist/: a tar of the static program, its scripts and README, and checksums
	@. rootfs-scripts/common.sh; is_static $(BUILT) || die "$(BUILT) is not static"
	@rm -rf target/dist
	@set -ex; umask 022; to=target/dist/$(DIST); \
	install -D -m 755 $(BUILT) $$to/husk; \
	$(if $(WITH_OCI),ln -s husk $$to/husk-oci;) \
	install -D -t $$to/rootfs-scripts $(SCRIPTS:%=rootfs-scripts/%); \
	cp -R README.md LICENSE $(wildcard docs) $$to; \
	(cd $$to && find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum) >target/dist/SHA256SUMS; \
	mv target/dist/SHA256SUMS $$to; \
	time=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)}; \
	tar --create --owner=0 --group=0 --numeric-owner --mode=go=rX --sort=name --mtime=@$$time \
		--use-compress-program="gzip -n9" --file=$$to.tar.gz -C target/dist $(DIST); \
	cd target/dist; rm -r $(DIST); sha256sum $(DIST).tar.gz >SHA256SUMS; cat SHA256SUMS

clean: ## everything that was built or unpacked (target/)
	@rm -rf --one-file-system target 2>/dev/null || (set -x; $(SUDO) rm -rf --one-file-system target)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
	@sed -n '/^#   /s/^#/  /p' Makefile
