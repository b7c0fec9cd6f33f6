#!/bin/sh
# Builds libcurl.a from Debian's own source package into PREFIX/lib: HTTP and HTTPS, c-ares, OpenSSL, zlib and Unix
# sockets, nothing else. Debian's own libcurl.a needs GSSAPI and others, which have no static form.
#   static-libcurl.sh PREFIX
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
work=$prefix/source
rm -rf "$work"
mkdir -p "$work"
# shellcheck source=/dev/null
. /etc/os-release
cd "$work"
# Runs a command with its output in a log, the end of which is shown if it fails.
logged() { # LOG COMMAND...
  log=$1
  shift
  "$@" > "$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
}
echo "static libcurl: fetching Debian's source of curl"
logged source.log "$here/../../.ci/private-apt" "$prefix/apt" "$VERSION_CODENAME" deb-src source --only-source curl
cd curl-*/
echo "static libcurl: configuring $(basename "$PWD")"
./configure --prefix="$prefix" --disable-shared --enable-static --with-openssl --with-zlib --enable-ares \
  --disable-ldap --disable-ldaps --disable-rtsp --disable-dict --disable-telnet --disable-tftp --disable-pop3 \
  --disable-imap --disable-smb --disable-smtp --disable-gopher --disable-mqtt --disable-ftp --disable-file \
  --disable-manual --disable-ntlm --disable-ntlm-wb --disable-alt-svc --disable-hsts --disable-cookies \
  --disable-doh --disable-netrc --disable-libcurl-option --without-libpsl --without-libidn2 --without-nghttp2 \
  --without-librtmp --without-libssh2 --without-libgsasl --without-brotli --without-zstd --without-gssapi \
  --without-ca-bundle --without-ca-path --disable-dependency-tracking > configure.log
echo "static libcurl: compiling"
logged make.log make -C lib -j"$(nproc)" CFLAGS="-O2 -fdata-sections -ffunction-sections"
make -C lib install > /dev/null
cd "$prefix"
rm -rf source
echo "static libcurl: $prefix/lib/libcurl.a"
