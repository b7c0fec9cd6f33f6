#!/bin/sh
# Prepares a machine for an image: Consul, verified; consul-bootstrap; no per-machine state.
# Runs as root; idempotent. CONSUL_VERSION is the release of Consul; /tmp/consul-bootstrap (or PROGRAM) is the program.
set -eu

: "${CONSUL_VERSION:?say which Consul: CONSUL_VERSION=1.20.2}"
program=${PROGRAM:-/tmp/consul-bootstrap}
releases=${CONSUL_RELEASES:-https://releases.hashicorp.com/consul}
key_url=${HASHICORP_KEY_URL:-https://www.hashicorp.com/.well-known/pgp-key.txt}
# The key on HashiCorp's security page; a key from the URL is used only if it is this one.
fingerprint=${HASHICORP_FINGERPRINT:-C874011F0AB405110D02105534365D9472D7468F}

case $CONSUL_VERSION in
  *[!0-9A-Za-z.+-]*) echo "provision: CONSUL_VERSION is no version: $CONSUL_VERSION" >&2; exit 2 ;;
esac
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "provision: Consul is not published for $(uname -m)" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "provision: needs root" >&2; exit 2; }
[ -x "$program" ] || chmod 755 "$program"

say() { printf '==> %s\n' "$*"; }

need() {
  missing=
  for tool in curl unzip gpg; do command -v "$tool" > /dev/null || missing="$missing $tool"; done
  [ -z "$missing" ] && return
  say "installing$missing"
  if command -v apt-get > /dev/null; then
    # cloud-init of a fresh instance may hold the lock.
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends \
      ca-certificates curl unzip gpg gpg-agent > /dev/null
  else
    # Amazon Linux has curl-minimal, which is curl.
    dnf -q -y install unzip gnupg2-minimal shadow-utils
  fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { curl --proto =https --tlsv1.2 -fsSL --retry 5 --retry-delay 2 --max-time 300 -o "$work/$2" "$1"; }

verify_consul() {
  zip=consul_${CONSUL_VERSION}_linux_$arch.zip sums=consul_${CONSUL_VERSION}_SHA256SUMS
  say "fetching Consul $CONSUL_VERSION for $arch"
  fetch "$key_url" key.asc
  fetch "$releases/$CONSUL_VERSION/$sums" "$sums"
  fetch "$releases/$CONSUL_VERSION/$sums.sig" "$sums.sig"
  fetch "$releases/$CONSUL_VERSION/$zip" "$zip"
  export GNUPGHOME="$work/gnupg"
  mkdir -m 700 "$GNUPGHOME"
  gpg --batch --quiet --import "$work/key.asc"
  # The pinned key or one of its subkeys must have signed: the last field of VALIDSIG is the primary key.
  signer=$(gpg --batch --status-fd 1 --verify "$work/$sums.sig" "$work/$sums" 2> /dev/null |
    awk '$2 == "VALIDSIG" {print $NF}')
  if [ "$signer" != "$fingerprint" ]; then
    echo "provision: $sums is not signed by $fingerprint (but by ${signer:-an unknown key}); nothing is installed" >&2
    exit 1
  fi
  (cd "$work" && grep -E "^[0-9a-f]{64}  $zip\$" "$sums" > wanted && sha256sum --check --status wanted) || {
    echo "provision: $zip does not have the published SHA-256; nothing is installed" >&2
    exit 1
  }
}

install_consul() {
  unzip -q -o "$work/$zip" consul -d "$work"
  install -m 755 "$work/consul" /usr/local/bin/consul
  /usr/local/bin/consul version | head -n 1
}

# Per-machine state that an image must not contain: all its instances would share it.
forget() {
  say "removing what may exist only once"
  for unit in consul.service consul-bootstrap.service; do
    if [ -d /run/systemd/system ]; then systemctl disable --quiet --now "$unit" 2> /dev/null || true; fi
  done
  find /opt/consul /var/lib/consul-bootstrap -mindepth 1 -delete
  rm -f /etc/consul.d/00-consul-bootstrap.json
  rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/dbus/machine-id
  # Empty, not missing: systemd creates a new one at the first boot.
  : > /etc/machine-id
  rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /root/.bash_history /home/*/.bash_history
  if command -v cloud-init > /dev/null; then cloud-init clean --logs; fi
  rm -rf /var/lib/cloud/instances /var/lib/cloud/instance
  if command -v apt-get > /dev/null; then apt-get clean; else dnf -q clean all; fi
  find /var/log -type f -exec truncate --size 0 {} +
}

need
verify_consul
install_consul
say "installing consul-bootstrap"
"$program" install
rm -f /tmp/consul-bootstrap
forget
say "done: $(/usr/local/bin/consul-bootstrap --version)"
