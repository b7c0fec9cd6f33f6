# make demo   five instances become one Consul datacenter, here, in a sandbox (KEEP=1 leaves it up)
# make test   everything: unit tests, the static binary, the sandbox tests
# make dist   a tarball, .deb and .rpm with checksums and a list of what is in them
# make static make bench make fuzz make lint make sandbox-down make clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

build   := .build
static  := $(build)/static/consul-bootstrap
venv    := $(build)/venv
python  := $(venv)/bin/python
libcurl := $(build)/static-libcurl/lib/libcurl.a
consul  := $(build)/consul/usr/bin/consul
# Another list of packages is another root file system.
rootfs_packages := systemd,systemd-sysv,dbus,iproute2,adduser,systemd-resolved,dnsmasq,cloud-init,ca-certificates,curl,unzip,gpg,gpg-agent
comma   := ,
docker  := $(build)/docker/usr/sbin/dockerd
packer  := $(build)/packer/usr/bin/packer
rootfs  := $(build)/rootfs/var/lib/$(subst $(comma),+,$(rootfs_packages))
sources := $(shell find Sources Package.swift -type f)

# What a build needs, and what the sandbox needs on top.
build_packages   := libcurl4-openssl-dev libssl-dev libexpat1-dev libc-ares-dev libdeflate-dev zlib1g-dev dpkg-dev gcc binutils file
sandbox_packages := iproute2 nftables procps python3-venv mmdebstrap systemd-container strace jq openssl gpg gpg-agent zsh fish mandoc rpm cpio
bench_packages   := hyperfine
dist_packages    := jq rpm binutils

# The tag that this commit has; else the number in VERSION, with the commit.
version := $(shell git describe --exact-match --match 'v*' --dirty 2> /dev/null | sed 's/^v//' | grep . || \
  echo "$$(cat VERSION)$$(git describe --always --exclude '*' --dirty=.dirty 2> /dev/null | sed 's/^/+g/')")
say = @printf '\033[1m==> %s\033[0m\n' '$(1)'

.PHONY: all build static test unit sandbox-test lint lint-python demo bench fuzz dist docs reproduce sandbox-up sandbox-down clean deps-build deps-sandbox

all: static

# Installs Debian packages that are missing; $(1) their names.
define apt_install
	@missing=$$(for package in $(1); do dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing" $$missing; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing > /dev/null; \
	fi
endef

deps-build:
	$(call apt_install,$(build_packages))

deps-sandbox: deps-build $(consul) $(docker) $(packer) $(rootfs) $(venv)/ready

$(libcurl): Sources/CCurl/static-libcurl.sh .ci/private-apt | deps-build
	$(call say,building a static libcurl from source)
	@Sources/CCurl/static-libcurl.sh $(build)/static-libcurl

# Consul from bullseye: bookworm has none. Unpacked, not installed.
$(consul): .ci/private-apt
	$(call say,fetching Consul)
	@.ci/private-apt $(build)/consul-apt bullseye deb install -y --download-only --no-install-recommends consul
	@mkdir -p $(build)/consul && dpkg-deb -x $(build)/consul-apt/archives/consul_*.deb $(build)/consul && touch $@

# A Docker engine, to be run inside an instance. Unpacked, not installed: a layer over the machine's own root.
$(docker): .ci/private-apt
	$(call say,fetching Docker)
	@. /etc/os-release && .ci/private-apt $(build)/docker-apt "$$VERSION_CODENAME" deb install -y --download-only --no-install-recommends docker.io
	@rm -rf $(build)/docker && mkdir -p $(build)/docker
	@for package in $(build)/docker-apt/archives/*.deb; do dpkg-deb -x $$package $(build)/docker; done
	@rm -rf $(build)/docker/etc $(build)/docker/lib $(build)/docker-apt/archives/*.deb && touch $@

# A root file system with systemd and cloud-init (off, until a test switches it on), for the tests that boot it.
$(rootfs): | deps-sandbox-packages
	$(call say,making a root file system with systemd)
	@rm -rf $(build)/rootfs $(build)/rootfs.new
	@. /etc/os-release && mmdebstrap --quiet --variant=minbase --include=$(rootfs_packages) \
	  --customize-hook='systemctl --root="$$1" disable systemd-resolved.service dnsmasq.service > /dev/null 2>&1; touch "$$1/etc/cloud/cloud-init.disabled"' --dpkgopt='path-exclude=/usr/share/{doc,man,locale}/*' "$$VERSION_CODENAME" $(build)/rootfs.new
	@rm -rf $(build)/rootfs.new/var/cache/apt/archives/*.deb && mv $(build)/rootfs.new $(build)/rootfs && touch $@

.PHONY: deps-sandbox-packages
deps-sandbox-packages:
	$(call apt_install,$(sandbox_packages))

$(packer): .ci/private-apt
	$(call say,fetching Packer)
	@. /etc/os-release && .ci/private-apt $(build)/packer-apt "$$VERSION_CODENAME" deb install -y --download-only --no-install-recommends packer
	@mkdir -p $(build)/packer && dpkg-deb -x $(build)/packer-apt/archives/packer_*.deb $(build)/packer && touch $@

$(venv)/ready: Tests/Sandbox/requirements.txt | deps-sandbox-packages
	$(call say,making a Python environment for the sandbox)
	@python3 -m venv $(venv) && $(venv)/bin/pip install -q --disable-pip-version-check -r $< && touch $@

build: | deps-build
	swift build

static: $(static)

# Touched only when it changes.
$(build)/version: FORCE
	@mkdir -p $(build) && echo '$(version)' | cmp -s - $@ || echo '$(version)' > $@
.PHONY: FORCE

# Two sections differ from build to build, and nobody reads them: without them the same commit is the same bytes, in whatever directory.
$(static): $(sources) $(libcurl) .ci/check-static $(build)/version | deps-build
	$(call say,building the static binary)
	@swift build -c release --product consul-bootstrap --scratch-path $(build)/static-build \
	  --static-swift-stdlib -Xswiftc -static-executable -Xswiftc -use-ld=lld -Xlinker --gc-sections -Xlinker -Map=$(CURDIR)/$(build)/static-build/link.map \
	  -Xlinker -L$(CURDIR)/$(dir $(libcurl)) -Xlinker -lcares -Xlinker -lssl -Xlinker -lcrypto -Xlinker -lz -Xlinker -ldeflate
	@.ci/check-static $(build)/static-build $(build)/static-libcurl/lib/libcurl.a
	@mkdir -p $(dir $@) && strip -o $@.new $(build)/static-build/release/consul-bootstrap
	@rm -f $(build)/version.section && truncate --size 64 $(build)/version.section && printf '%s\0' '$(version)' | dd of=$(build)/version.section conv=notrunc status=none
	@objcopy --update-section .cb_version=$(build)/version.section --remove-section .swift_modhash --remove-section .note.gnu.build-id $@.new && mv $@.new $@
	@file $@ && ls -l $@ | awk '{printf "%.1f MB\n", $$5 / 1e6}'

lint: lint-python | deps-build
	swift format lint --strict --recursive Sources Tests Package.swift
	$(call apt_install,shellcheck)
	shellcheck packer/*.sh userdata/*.sh .ci/run .ci/dist .ci/private-apt .ci/check-static Sources/CCurl/static-libcurl.sh Tests/Sandbox/sandbox Tests/Fuzz/run

lint-python: $(venv)/ready
	@$(venv)/bin/ruff check Tests/Sandbox && $(venv)/bin/ruff format --check --quiet Tests/Sandbox

unit: | deps-build
	$(call say,unit tests)
	@swift test

sandbox-test: $(static) deps-sandbox
	$(call say,sandbox tests)
	@$(python) -m pytest Tests/Sandbox -n 3 $(PYTEST)

test: lint unit sandbox-test

demo: $(static) deps-sandbox
	@$(python) -m Tests.Sandbox demo $(if $(KEEP),--keep)

sandbox-up: $(static) deps-sandbox
	@$(python) -m Tests.Sandbox up

sandbox-down:
	@[ ! -x $(python) ] || $(python) -m Tests.Sandbox down

# The same binary and commit make the same bytes; checked, since it is easily lost.
dist: $(static)
	$(call apt_install,$(dist_packages))
	$(call say,making the packages)
	@.ci/dist $(build) '$(version)' $(build)/dist.again > /dev/null && .ci/dist $(build) '$(version)' $(build)/dist
	@cmp $(build)/dist.again/SHA256SUMS $(build)/dist/SHA256SUMS && rm -rf $(build)/dist.again

# From a clone elsewhere, from nothing: the same bytes. (Of what is committed; with the same compiler and packages.)
reproduce: $(static)
	@rm -rf $(build)/reproduce && git clone -q . $(build)/reproduce && $(MAKE) -C $(build)/reproduce static > $(build)/reproduce.log 2>&1
	@cmp $(static) $(build)/reproduce/$(static) && sha256sum $(static) && rm -rf $(build)/reproduce

# The picture in README, of its source.
docs: docs/boot.svg
docs/boot.svg: docs/boot.dot
	$(call apt_install,graphviz fonts-dejavu-core)
	dot -Tsvg $< -o $@

bench: $(static) deps-sandbox
	$(call apt_install,$(bench_packages))
	@$(python) -m Tests.Sandbox.bench

# Each target for so many seconds, with libFuzzer.
FUZZ_SECONDS := 60

fuzz: | deps-build
	$(call say,fuzzing)
	@Tests/Fuzz/run $(build)/fuzz $(FUZZ_SECONDS)

clean: sandbox-down
	rm -rf $(build)
