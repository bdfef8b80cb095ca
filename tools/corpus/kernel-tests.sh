#!/usr/bin/env bash
# Builds the Linux kernel's own BPF test programs, from Debian's package of the 6.12 source, for both verifiers to judge
# (internal/difftest, TestCorpus) and for `skep test`. They are GPL: made where tests run, never committed.
#
#   tools/corpus/kernel-tests.sh DIR [GLOB]     objects land in DIR/kernel-tests and, those of verifier_*.c, in DIR/verifier-tests
#
# Needs from apt: linux-source-6.12 clang-22 make gcc flex bison libelf-dev zlib1g-dev xz-utils rsync, and the running kernel's BTF.
set -euo pipefail
dir=$(mkdir -p "${1:?usage: $0 DIR [GLOB]}" && cd "$1" && pwd)
glob=${2:-*.c} clang=${CLANG:-clang-22} src=$dir/linux-source-6.12
tests=$src/tools/testing/selftests/bpf
if [ ! -d "$src/usr/include/linux" ]; then
	p=linux-source-6.12
	tar -C "$dir" -xf /usr/src/linux-source-6.12.tar.xz --wildcards \
		$p/{Makefile,Kbuild,scripts,include/uapi,include/asm-generic,kernel/bpf,tools/bpf,tools/build,tools/scripts,tools/arch,tools/include,tools/lib} \
		"$p/include/linux/bpf*" $p/arch/x86/{include,entry/syscalls,tools,Makefile,Makefile_32.cpu,Makefile.um,Kconfig} $p/tools/testing/selftests/bpf
	make -s -C "$src" headers ARCH=x86 >/dev/null
fi
# the tree's own bpftool: the packaged one writes no prototypes of kfuncs
tool=$dir/bpftool
[ -x "$tool/bpftool" ] || { mkdir -p "$tool" && make -s -C "$src/tools/bpf/bpftool" -j"$(nproc)" OUTPUT="$tool/" CLANG="$clang" feature-llvm=0 >/dev/null 2>&1; }
mkdir -p "$dir/include"
# two prototypes of a newer kernel clash with the tests' own headers
"$tool/bpftool" btf dump file /sys/kernel/btf/vmlinux format c |
	grep -vE 'extern .*\b(bpf_path_d_path|bpf_lookup_user_key)\(' >"$dir/include/vmlinux.h"
out=$dir/kernel-tests
rm -rf "$out" "$dir/verifier-tests" && mkdir -p "$out" "$dir/verifier-tests"
system=$("$clang" -v -E - </dev/null 2>&1 | sed -n '/<...> search starts here:/,/End of search list./{ s| \(/.*\)|-idirafter \1|p }')
flags="-g -O2 --target=bpf -mcpu=v3 -mlittle-endian -D__TARGET_ARCH_x86 -DENABLE_ATOMICS_TESTS -Wno-everything
	-I$dir/include -I$tool/libbpf/include -I$tests -I$src/tools/include/uapi -I$src/usr/include $system"
# as the tests' own Makefile builds them
noalias=" bind4_prog bind6_prog dynptr_fail linked_list_fail map_kptr_fail syscall test_pkt_md_access test_sk_lookup timer_crash test_global_func9 verifier_nocsr "
one() {
	local name more=
	name=$(basename "$1" .c)
	[[ $noalias != *" $name "* ]] || more=-fno-strict-aliasing
	case $name in test_l4lb_noinline | test_xdp_noinline) more="$more -fno-inline" ;; esac
	# shellcheck disable=SC2086
	$clang $flags $more -c "$1" -o "$out/$name.o" 2>/dev/null || rm -f "$out/$name.o"
}
export -f one
export clang flags out noalias
cd "$tests/progs"
# shellcheck disable=SC2086
ls $glob | xargs -P"$(nproc)" -I{} bash -c 'one {}'
mv "$out"/verifier_*.o "$dir/verifier-tests/"
# types that annotations name (btf_path), under the name that the tree's Makefile gives them
[ ! -f "$out/btf__core_reloc_bitfields.o" ] || cp "$out/btf__core_reloc_bitfields.o" "$dir/verifier-tests/btf__core_reloc_bitfields.bpf.o"
echo "$(ls "$dir/verifier-tests" | wc -l) objects in $dir/verifier-tests, $(ls "$out" | wc -l) in $out"
