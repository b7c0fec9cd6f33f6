# `make help` lists the targets: each with a sentence after `##`, in the sections that `##@` begins.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

build   := .build
static  := $(build)/static/consul-bootstrap
venv    := $(build)/venv
python  := $(venv)/bin/python
libcurl := $(build)/static-libcurl/lib/libcurl.a
consul  := $(build)/consul/usr/bin/consul
docker  := $(build)/docker/usr/sbin/dockerd
packer  := $(build)/packer/usr/bin/packer
sources := $(shell find Sources Package.swift -type f)

# What each group of targets needs of Debian. Only `make deps`, `deps-build`, `deps-sandbox`, `test` and `demo` install
# packages.
build_packages   := libcurl4-openssl-dev libssl-dev libexpat1-dev libc-ares-dev libdeflate-dev zlib1g-dev dpkg-dev \
  gcc binutils file
check_packages   := shellcheck python3-venv
dist_packages    := jq rpm binutils
docs_packages    := graphviz fonts-dejavu-core
sandbox_packages := iproute2 nftables procps python3-venv mmdebstrap systemd-container strace jq openssl gpg gpg-agent \
  zsh fish mandoc rpm cpio
bench_packages   := hyperfine
# In the root file system of the instances that boot; another list is another root file system.
rootfs_packages  := systemd systemd-sysv dbus iproute2 adduser systemd-resolved dnsmasq cloud-init ca-certificates \
  curl unzip gpg gpg-agent

empty  :=
space  := $(empty) $(empty)
comma  := ,
rootfs := $(build)/rootfs/var/lib/$(subst $(space),+,$(strip $(rootfs_packages)))

# The tag that this commit has; else the number in VERSION, with the commit.
version := $(shell git describe --exact-match --match 'v*' --dirty 2> /dev/null | sed 's/^v//' | grep . || \
  echo "$$(cat VERSION)$$(git describe --always --exclude '*' --dirty=.dirty 2> /dev/null | sed 's/^/+g/')")

# Reports progress.
say = @printf '\033[1m==> %s\033[0m\n' '$(1)'
# Checks for Debian packages, or installs them where INSTALL_PACKAGES is set: for a target and everything that it needs.
need = @.ci/debian-packages $(if $(INSTALL_PACKAGES),install,check) $(1)
deps deps-build deps-sandbox test demo: INSTALL_PACKAGES := 1

.PHONY: help demo deps deps-build deps-sandbox build check test lint lint-swift lint-shell lint-python unit \
  sandbox-test sandbox-long chaos sandbox-up sandbox-down fuzz bench reproduce static dist docs clean \
  build-packages sandbox-packages sandbox-ready FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Try it

demo: $(static) sandbox-ready ## Turn five instances into one Consul datacenter in a local sandbox (KEEP=1 keeps it)
	@$(python) -m Tests.Sandbox demo $(if $(KEEP),--keep)

##@ Develop

deps: deps-build $(venv)/ready ## Install what builds, checks and packages need (as root)
	$(call need,$(check_packages) $(dist_packages) $(docs_packages))

deps-build: build-packages ## Install what a build needs (as root)

deps-sandbox: sandbox-ready ## Install what the sandbox and the benchmarks need (as root)
	$(call need,$(bench_packages))

build: build-packages ## Build for development; installs nothing
	swift build

check: lint unit ## Run the linters and the fast tests

test: lint unit sandbox-test ## Run everything: linters, fast tests, sandbox tests; installs what is missing

##@ Parts of the tests

lint: lint-swift lint-shell lint-python ## Run the linters

lint-swift: ## Check the format of the Swift files
	$(call say,swift format)
	@swift format lint --strict --parallel --recursive Sources Tests Package.swift

lint-shell: ## Check the shell scripts
	$(call need,$(check_packages))
	$(call say,shellcheck)
	@shellcheck $(shell_scripts)

lint-python: $(venv)/ready ## Check the Python files of the sandbox
	$(call say,ruff)
	@$(venv)/bin/ruff check --quiet Tests/Sandbox
	@$(venv)/bin/ruff format --check --quiet Tests/Sandbox

unit: build-packages ## Run the fast tests; check that the fuzz targets compile
	$(call say,fast tests)
	@swift test
	@Tests/Fuzz/run --check "$$(swift build --show-bin-path)/Modules"

sandbox-test: $(static) sandbox-ready ## Run the sandbox tests (PYTEST='-k NAME' selects)
	$(call say,sandbox tests)
	@$(python) -m pytest Tests/Sandbox -n 3 -m 'not long and not chaos' --durations 10 $(PYTEST)

sandbox-up: $(static) sandbox-ready ## Start a sandbox to work in
	@$(python) -m Tests.Sandbox up

sandbox-down: ## Stop the sandbox
	@[ ! -x $(python) ] || $(python) -m Tests.Sandbox down

##@ Proofs and figures

sandbox-long: $(static) sandbox-ready ## Run the sandbox tests that take minutes each
	$(call say,long sandbox tests)
	@$(python) -m pytest Tests/Sandbox -n 3 -m long --durations 10 $(PYTEST)

chaos: $(static) sandbox-ready ## Kill and cut a cluster under load (SEED=N, MINUTES=60, SERVERS=5, BASELINE=FILE)
	$(call say,chaos suite)
	@CHAOS_SEED=$(SEED) CHAOS_MINUTES=$(MINUTES) CHAOS_SERVERS=$(SERVERS) CHAOS_BASELINE=$(BASELINE) \
	  $(python) -m pytest Tests/Sandbox/chaos -m chaos -s $(PYTEST)

fuzz: build-packages ## Run each fuzz target for FUZZ_SECONDS (60; FUZZ='XML JSON' selects)
	$(call say,fuzzing)
	@Tests/Fuzz/run $(build)/fuzz $(FUZZ_SECONDS) $(FUZZ)

bench: $(static) sandbox-ready ## Measure against the scripts that this program replaces
	$(call need,$(bench_packages))
	@$(python) -m Tests.Sandbox.bench

reproduce: $(static) ## Build again in a fresh clone and compare the bytes
	@rm -rf $(build)/reproduce && git clone -q . $(build)/reproduce
	@$(MAKE) -C $(build)/reproduce static > $(build)/reproduce.log 2>&1
	@cmp $(static) $(build)/reproduce/$(static) && sha256sum $(static) && rm -rf $(build)/reproduce

##@ Release

static: $(static) ## Build the static binary, .build/static/consul-bootstrap

dist: $(static) ## Create the tarball, .deb and .rpm with checksums and an SBOM
	$(call need,$(dist_packages))
	$(call say,creating the packages)
	@# Twice: that the same binary and commit give the same bytes is easily lost.
	@.ci/dist $(build) '$(version)' $(build)/dist.again > /dev/null && .ci/dist $(build) '$(version)' $(build)/dist
	@cmp $(build)/dist.again/SHA256SUMS $(build)/dist/SHA256SUMS && rm -rf $(build)/dist.again

docs: docs/boot.svg ## Draw the pictures of the documents

clean: sandbox-down ## Remove .build
	rm -rf $(build)

##@

# Internal targets: without a sentence, not in `make help`.

FUZZ_SECONDS  := 60
shell_scripts := packer/*.sh userdata/*.sh .ci/* Sources/CCurl/static-libcurl.sh Tests/Sandbox/sandbox Tests/Fuzz/run

build-packages:
	$(call need,$(build_packages))

sandbox-packages: build-packages
	$(call need,$(sandbox_packages))

sandbox-ready: sandbox-packages $(consul) $(docker) $(packer) $(rootfs) $(venv)/ready

docs/boot.svg: docs/boot.dot
	$(call need,$(docs_packages))
	dot -Tsvg $< -o $@

$(libcurl): Sources/CCurl/static-libcurl.sh .ci/private-apt | build-packages
	$(call say,building a static libcurl from source)
	@Sources/CCurl/static-libcurl.sh $(build)/static-libcurl

# Consul from bullseye: bookworm has none. Unpacked, not installed.
$(consul): .ci/private-apt
	$(call say,fetching Consul)
	@.ci/private-apt $(build)/consul-apt bullseye deb install -y --download-only --no-install-recommends consul
	@mkdir -p $(build)/consul && dpkg-deb -x $(build)/consul-apt/archives/consul_*.deb $(build)/consul && touch $@

# A Docker engine for the inside of an instance. Unpacked, not installed: a layer over the machine's own root.
$(docker): .ci/private-apt
	$(call say,fetching Docker)
	@. /etc/os-release && .ci/private-apt $(build)/docker-apt "$$VERSION_CODENAME" deb \
	  install -y --download-only --no-install-recommends docker.io
	@rm -rf $(build)/docker && mkdir -p $(build)/docker
	@for package in $(build)/docker-apt/archives/*.deb; do dpkg-deb -x $$package $(build)/docker; done
	@rm -rf $(build)/docker/etc $(build)/docker/lib $(build)/docker-apt/archives/*.deb && touch $@

$(packer): .ci/private-apt
	$(call say,fetching Packer)
	@. /etc/os-release && .ci/private-apt $(build)/packer-apt "$$VERSION_CODENAME" deb \
	  install -y --download-only --no-install-recommends packer
	@mkdir -p $(build)/packer && dpkg-deb -x $(build)/packer-apt/archives/packer_*.deb $(build)/packer && touch $@

# A root file system with systemd and cloud-init (off, until a test switches it on), for the tests that boot it.
$(rootfs): | sandbox-packages
	$(call say,creating a root file system with systemd)
	@rm -rf $(build)/rootfs $(build)/rootfs.new
	@. /etc/os-release && mmdebstrap --quiet --variant=minbase \
	  --include=$(subst $(space),$(comma),$(strip $(rootfs_packages))) \
	  --customize-hook='systemctl --root="$$1" disable systemd-resolved.service dnsmasq.service > /dev/null 2>&1' \
	  --customize-hook='touch "$$1/etc/cloud/cloud-init.disabled"' \
	  --dpkgopt='path-exclude=/usr/share/{doc,man,locale}/*' "$$VERSION_CODENAME" $(build)/rootfs.new
	@rm -rf $(build)/rootfs.new/var/cache/apt/archives/*.deb && mv $(build)/rootfs.new $(build)/rootfs && touch $@

$(venv)/ready: Tests/Sandbox/requirements.txt
	$(call need,$(check_packages))
	$(call say,creating a Python environment for the sandbox)
	@python3 -m venv $(venv) && $(venv)/bin/pip install -q --disable-pip-version-check -r $< && touch $@

# Touched only when it changes.
$(build)/version: FORCE
	@mkdir -p $(build) && echo '$(version)' | cmp -s - $@ || echo '$(version)' > $@

# The program never unwinds its stack: without the index of the unwind tables it is half a megabyte smaller.
linker_flags = --gc-sections --icf=all --no-eh-frame-hdr -Map=$(CURDIR)/$(build)/static-build/link.map \
  -L$(CURDIR)/$(dir $(libcurl)) -lcares -lssl -lcrypto -lz -ldeflate

# Without the two sections that differ from build to build, the same commit is the same bytes, in whatever directory.
$(static): $(sources) $(libcurl) .ci/check-static $(build)/version | build-packages
	$(call say,building the static binary)
	@swift build -c release --product consul-bootstrap --scratch-path $(build)/static-build --static-swift-stdlib \
	  -Xswiftc -static-executable -Xswiftc -use-ld=lld $(addprefix -Xlinker ,$(linker_flags))
	@.ci/check-static $(build)/static-build $(libcurl)
	@mkdir -p $(dir $@) && strip -o $@.new $(build)/static-build/release/consul-bootstrap
	@rm -f $(build)/version.section && truncate --size 64 $(build)/version.section
	@printf '%s\0' '$(version)' | dd of=$(build)/version.section conv=notrunc status=none
	@objcopy --update-section .cb_version=$(build)/version.section --remove-section .swift_modhash \
	  --remove-section .note.gnu.build-id $@.new
	@mv $@.new $@ && file $@ && ls -l $@ | awk '{printf "%.1f MB\n", $$5 / 1e6}'
