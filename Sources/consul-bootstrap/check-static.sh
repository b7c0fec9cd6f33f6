#!/bin/sh
# Fails if one of our own objects, or one of libcurl's, calls a function of glibc that loads NSS modules or other shared
# libraries: in a static program it would load those of the machine it runs on, of another glibc.
# (libcrypto, the Swift runtime and FoundationEssentials hold such calls, in code that is never reached from here.)
#   check-static.sh SCRATCH-PATH LIBCURL.A
set -eu
forbidden='getaddrinfo|getnameinfo|gethostbyname2?(_r)?|gethostbyaddr(_r)?|getpw(nam|uid|ent)(_r)?|getgr(nam|gid|ent|ouplist)(_r)?|getservby(name|port)(_r)?|initgroups|dlopen|iconv_open'
status=0
report() { # NAME FILE
  found=$(nm -u "$2" 2>/dev/null | awk '{print $NF}' | grep -Ex "$forbidden" | sort -u | tr '\n' ' ') || true
  [ -n "$found" ] || return 0
  echo "check-static: $1 calls $found" >&2
  status=1
}
for object in $(find "$1"/*/release/ -name '*.o'); do report "${object##*/}" "$object"; done
report libcurl.a "$2"
[ "$status" -eq 0 ] && echo "check-static: no resolver, user database or dlopen call in our objects and libcurl's"
exit "$status"
