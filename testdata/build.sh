#!/bin/sh
# Builds the objects of this directory and of the demo from their sources (go generate ./internal/object). The objects
# are committed, so that tests need no compiler.
set -e
cd "$(dirname "$0")"
clang=${CLANG:-clang-22}
build() { # CPU SOURCE OBJECT
	$clang -target bpf -mlittle-endian -mcpu="$1" -O2 -g -Wall -Wno-unused-function -fdebug-prefix-map="$PWD"=. -I. -I../include -c "$2" -o "$3"
	llvm-strip-22 -g "$3"
}
for f in twelve bridge nesting stackargs callbacks iterators exceptions globalfn ringbuf dynptr userring counter parser tailcall globals old_dialect core core_target syscall padded kconfig private maps mapbench timers objects reslock; do
	build v3 $f.c $f.o
done
for f in helpers/skbhelpers helpers/sections hooks/hook; do # for one test each, and not for other compilers
	build v3 $f.c $f.o
done
build v1 parser.c parser_v1.o
build v2 counter.c counter_v2.o
build v4 counter.c counter_v4.o
build v4 alu_v4.c alu_v4.o
build v3 ../cmd/skep/demo/demo.c ../cmd/skep/demo/demo.o
build v3 ../cmd/skep/testdata/contexts.c ../cmd/skep/testdata/contexts.o
build v3 ../skeptest/testdata/cases.c ../skeptest/testdata/cases.o
build v3 ../internal/object/testdata/structops.c ../internal/object/testdata/structops.o
for f in timercache ratelimit liveupgrade balancer slowopen; do
	build v3 ../examples/$f/bpf/$f.c ../examples/$f/bpf/$f.o
done
