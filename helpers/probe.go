package helpers

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Reads of memory by any address. What a program can see by itself it can read like this as well; for all the rest, which in the kernel is
// the kernel's memory and a task's, the run's Env may have something to show.

var _ = define(
	runs(probeRead, gpl(sig(4, "probe_read", traceTypes, aMemOut, aSizeOrZero, aAny))),
	runs(probeReadStr, gpl(returnsLength(sig(45, "probe_read_str", traceTypes, aMemOut, aSizeOrZero, aAny)))),
	runs(probeReadUser, gpl(sig(112, "probe_read_user", nil, aMemOut, aSizeOrZero, aAny))),
	runs(probeRead, gpl(sig(113, "probe_read_kernel", nil, aMemOut, aSizeOrZero, aAny))),
	runs(probeReadUserStr, gpl(returnsLength(sig(114, "probe_read_user_str", nil, aMemOut, aSizeOrZero, aAny)))),
	runs(probeReadStr, gpl(returnsLength(sig(115, "probe_read_kernel_str", nil, aMemOut, aSizeOrZero, aAny)))),
	runs(probeReadUser, sleeps(sig(148, "copy_from_user", nil, aMemOut, aSizeOrZero, aAny))),
)

// kernelStart is where the kernel's addresses begin (x86-64, page tables of four levels): below, reads of its memory do not even try.
const kernelStart = 1<<64 - 1<<47

// probe fills p with what lies at addr; false if not all of it is there.
func probe(r *rt.Run, addr uint64, p []byte) bool {
	read := readerOf(r)
	for n := 0; n < len(p); {
		b := read(addr+uint64(n), len(p)-n)
		if len(b) == 0 {
			return n == 0 && r.Env != nil && r.Env.Memory != nil && r.Env.Memory(addr, p)
		}
		n += copy(p[n:], b)
	}
	return true
}

// noKernelMemory is the error for an address where nothing is.
func noKernelMemory(addr uint64) errno.Errno {
	if addr < kernelStart {
		return errno.ERANGE
	}
	return errno.EFAULT
}

func noUserMemory(uint64) errno.Errno { return errno.EFAULT }

func probeRead(r *rt.Run, a *[12]uint64) uint64     { return probeBytes(r, a, noKernelMemory) }
func probeReadUser(r *rt.Run, a *[12]uint64) uint64 { return probeBytes(r, a, noUserMemory) }

// probeBytes clears the buffer if it fails.
func probeBytes(r *rt.Run, a *[12]uint64, missing func(addr uint64) errno.Errno) uint64 {
	to := rt.Mem(a[0], int(uint32(a[1])))
	if !probe(r, a[2], to) {
		clear(to)
		return missing(a[2]).R0()
	}
	return 0
}

func probeReadStr(r *rt.Run, a *[12]uint64) uint64     { return probeString(r, a, noKernelMemory) }
func probeReadUserStr(r *rt.Run, a *[12]uint64) uint64 { return probeString(r, a, noUserMemory) }

// probeString copies a string with its NUL, or as much as fits with a NUL behind it, and returns how many bytes that is. Nothing is behind
// the NUL but what was there before.
func probeString(r *rt.Run, a *[12]uint64, missing func(addr uint64) errno.Errno) uint64 {
	to := rt.Mem(a[0], int(uint32(a[1])))
	if len(to) == 0 {
		return 0
	}
	var one [1]byte
	for i := range to {
		if !probe(r, a[2]+uint64(i), one[:]) {
			clear(to)
			return missing(a[2]).R0()
		}
		if to[i] = one[0]; one[0] == 0 {
			return uint64(i + 1)
		}
	}
	to[len(to)-1] = 0
	return uint64(len(to))
}
