#!/usr/bin/env bash
# Collects BPF objects from Debian packages and from the cilium/ebpf module, stand-alone files and images inside of binaries, for
# both verifiers to judge (internal/difftest, TestCorpus). Foreign and mostly GPL: collected where tests run, never committed.
#
#   tools/corpus/packages.sh DIR     objects land in DIR/SOURCE/*.o; nothing is installed
#
# Needs apt-get with package lists, dpkg-deb, go.
set -euo pipefail
dir=$(mkdir -p "${1:?usage: $0 DIR}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
for p in libbpf-tools xdp-tools libxdp1 xdp-tests pcp libknot13 qemu-system-x86; do
	(cd "$work" && apt-get -qq download "$p" 2>/dev/null && dpkg-deb -x "$p"_*.deb "$p" && rm "$p"_*.deb)
	go -C "$here" run ./carve "$work/$p" "$dir/$p"
done
module=$(go -C "$here/.." list -m -f '{{.Dir}}' github.com/cilium/ebpf)
go -C "$here" run ./carve "$module" "$dir/cilium-ebpf"
