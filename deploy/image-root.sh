#!/usr/bin/env bash
# Lays out the root of the image: a program, what it is linked against, users, certificates of authorities.
#
#   image-root.sh PROGRAM ROOT
set -euo pipefail

fail() {
    echo "image-root.sh: $*" >&2
    exit 1
}

[ $# = 2 ] || fail "usage: image-root.sh PROGRAM ROOT"
program=$1 root=$2
authorities=/etc/ssl/certs/ca-certificates.crt
[ -x "$program" ] || fail "$program: no program"
[ -f "$authorities" ] || fail "$authorities not found: apt-get install ca-certificates"

mkdir -p "$root"/{usr/bin,etc/ssl/certs,etc/shoal,var/lib/shoal,tmp}
cp "$program" "$root/usr/bin/shoal"
# Libraries, and what reads names of hosts, which the C library opens by itself.
{
    ldd "$program" | grep -o '/[^ ]*'
    ldconfig -p | grep -oE '/[^ ]*/lib(resolv\.so\.2|nss_dns\.so\.2|nss_files\.so\.2)$' || true
} | sort -u | while read -r library; do
    mkdir -p "$root/$(dirname "$library")"
    cp --dereference "$library" "$root/$library"
done
cp --dereference "$authorities" "$root$authorities"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'shoal:x:10001:10001::/var/lib/shoal:/nonexistent' >"$root/etc/passwd"
echo 'shoal:x:10001:' >"$root/etc/group"
