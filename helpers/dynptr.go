package helpers

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers on dynptrs (kernel/bpf/helpers.c). The verifier proves that an address is that of a dynptr on the program's stack, or of
// one that a callback got, and that the program cannot change its bytes; so they can be relied on. What a dynptr points to stays
// there: values and records until their map goes, which the program holds. One of a packet names the packet, not where it lies.

var _ = define(
	Helper{Proto: sig(197, "dynptr_from_mem", nil, aMemOut, aSizeOrZero, aAny, newDynptr(verifier.DynptrLocal)), Fn: dynptrFromMem},
	Helper{Proto: sig(201, "dynptr_read", nil, aMemOut, aSizeOrZero, aDynptr, aAny, aAny), Fn: dynptrRead},
	Helper{Proto: sig(202, "dynptr_write", nil, aDynptr, aAny, aMem, aSizeOrZero, aAny), Fn: dynptrWrite},
	Helper{Proto: returns(verifier.RetDynptrMemOrNull, sig(203, "dynptr_data", nil, aDynptr, aAny, arg(verifier.ArgConstAllocSizeOrZero))), Fn: dynptrData},
)

// Dynptr arguments: any one, whose memory the helper uses; a record of a ring buffer, which it gives back.
var (
	aDynptr = verifier.HelperArg{Kind: verifier.ArgDynptr, Const: true}
	aRecord = verifier.HelperArg{Kind: verifier.ArgDynptr, Dynptr: verifier.DynptrRingBuf}
)

func newDynptr(k verifier.DynptrKind) verifier.HelperArg {
	return verifier.HelperArg{Kind: verifier.ArgDynptr, Dynptr: k, Uninit: true}
}

// dynptr is the object as it lies on the program's stack: that of the kernel (struct bpf_dynptr_kern).
type dynptr struct {
	data   uint64 // address, of the context for a packet; 0: there is nothing behind it
	size   uint32 // in bytes, and bits below
	offset uint32 // from data on
}

const (
	dynptrSizeMask  = 1<<24 - 1
	dynptrKindShift = 28
	dynptrReadOnly  = 1 << 31

	maxDynptr = dynptrSizeMask
)

func newDynptrOf(data uint64, k verifier.DynptrKind, size uint64) dynptr {
	return dynptr{data: data, size: uint32(size) | uint32(k)<<dynptrKindShift}
}

func (d *dynptr) len() uint64 { return uint64(d.size & dynptrSizeMask) }
func (d *dynptr) kind() verifier.DynptrKind {
	return verifier.DynptrKind(d.size &^ dynptrReadOnly >> dynptrKindShift)
}
func (d *dynptr) readOnly() bool { return d.size&dynptrReadOnly != 0 }

// has reports whether all n bytes from off on are the dynptr's (bpf_dynptr_check_off_len).
func (d *dynptr) has(off, n uint64) bool { return n <= d.len() && off <= d.len()-n }

// at returns where n bytes from off on lie, which the dynptr has; false if the packet is shorter by now.
func (d *dynptr) at(r *rt.Run, off, n uint64) (uint64, bool) {
	off += uint64(d.offset)
	switch d.kind() {
	case verifier.DynptrSkb, verifier.DynptrXDP:
		return at(r.Packet, off, n)
	}
	return d.data + off, true
}

func dynptrFromMem(_ *rt.Run, a *[12]uint64) uint64 {
	d, n := dynptrAt(a[3]), uint64(uint32(a[1]))
	*d = dynptr{}
	switch {
	case n > maxDynptr:
		return errno.E2BIG.R0()
	case a[2] != 0:
		return errno.EINVAL.R0()
	}
	*d = newDynptrOf(a[0], verifier.DynptrLocal, n)
	return 0
}

func dynptrRead(r *rt.Run, a *[12]uint64) uint64 {
	if a[4] != 0 {
		return errno.EINVAL.R0()
	}
	return dynptrAt(a[2]).read(r, uint64(uint32(a[3])), a[0], uint64(uint32(a[1]))).R0()
}

// read copies n bytes from off on to dst.
func (d *dynptr) read(r *rt.Run, off, dst, n uint64) errno.Errno {
	switch {
	case d.data == 0:
		return errno.EINVAL
	case !d.has(off, n):
		return errno.E2BIG
	}
	src, ok := d.at(r, off, n)
	if !ok {
		return packetError(d.kind())
	}
	copy(rt.Mem(dst, int(n)), rt.Mem(src, int(n)))
	return 0
}

// packetError is what the helpers below the dynptr's say where the packet is too short.
func packetError(k verifier.DynptrKind) errno.Errno {
	if k == verifier.DynptrXDP {
		return errno.EINVAL
	}
	return errno.EFAULT
}

func dynptrWrite(r *rt.Run, a *[12]uint64) uint64 {
	return dynptrAt(a[0]).write(r, uint64(uint32(a[1])), a[2], uint64(uint32(a[3])), a[4]).R0()
}

// write copies n bytes at src to off. Flags are those of bpf_skb_store_bytes, for a socket buffer; for others there are none.
func (d *dynptr) write(r *rt.Run, off, src, n, flags uint64) errno.Errno {
	switch {
	case d.data == 0, d.readOnly():
		return errno.EINVAL
	case !d.has(off, n):
		return errno.E2BIG
	case d.kind() == verifier.DynptrSkb:
		return skbStore(r, uint64(d.offset)+off, src, n, flags)
	case flags != 0:
		return errno.EINVAL
	}
	dst, ok := d.at(r, off, n)
	if !ok {
		return packetError(d.kind())
	}
	copy(rt.Mem(dst, int(n)), rt.Mem(src, int(n)))
	return 0
}

// dynptrData gives the address of bytes that can be written; packets have none here.
func dynptrData(_ *rt.Run, a *[12]uint64) uint64 {
	d, off, n := dynptrAt(a[0]), uint64(uint32(a[1])), uint64(uint32(a[2]))
	if d.data == 0 || !d.has(off, n) || d.readOnly() {
		return 0
	}
	switch d.kind() {
	case verifier.DynptrLocal, verifier.DynptrRingBuf:
		return d.data + uint64(d.offset) + off
	}
	return 0
}

// Kfuncs on dynptrs.

// fromPacket makes the dynptr in argument 3 one of the run's packet.
func fromPacket(r *rt.Run, a *[12]uint64, k verifier.DynptrKind) errno.Errno {
	d := dynptrAt(a[2])
	*d = dynptr{}
	if a[1] != 0 || r.Packet == nil {
		return errno.EINVAL
	}
	*d = newDynptrOf(a[0], k, uint64(r.Packet.DataEnd-r.Packet.Data))
	return 0
}

func dynptrFromSkb(r *rt.Run, a *[12]uint64) uint64 { return fromPacket(r, a, verifier.DynptrSkb).R0() }
func dynptrFromXDP(r *rt.Run, a *[12]uint64) uint64 { return fromPacket(r, a, verifier.DynptrXDP).R0() }

// dynptrFromSkbReadOnly is what programs that may not write to packets get.
func dynptrFromSkbReadOnly(r *rt.Run, a *[12]uint64) uint64 {
	e := fromPacket(r, a, verifier.DynptrSkb)
	if e == 0 {
		dynptrAt(a[2]).size |= dynptrReadOnly
	}
	return e.R0()
}

// slice returns the address of n bytes from off on, 0 if the dynptr does not have them.
func (d *dynptr) slice(r *rt.Run, off, n uint64) uint64 {
	if d.data == 0 || !d.has(off, n) {
		return 0
	}
	addr, ok := d.at(r, off, n)
	if !ok {
		return 0
	}
	return addr
}

// A slice never lies in the buffer that the program offers: packets here are in one piece.
func dynptrSlice(r *rt.Run, a *[12]uint64) uint64 {
	return dynptrAt(a[0]).slice(r, uint64(uint32(a[1])), uint64(uint32(a[3])))
}

func dynptrSliceRdwr(r *rt.Run, a *[12]uint64) uint64 {
	if dynptrAt(a[0]).readOnly() {
		return 0
	}
	return dynptrSlice(r, a)
}

func dynptrAdjust(_ *rt.Run, a *[12]uint64) uint64 {
	d, start, end := dynptrAt(a[0]), uint32(a[1]), uint32(a[2])
	switch n := uint32(d.len()); {
	case d.data == 0 || start > end:
		return errno.EINVAL.R0()
	case start > n || end > n:
		return errno.ERANGE.R0()
	}
	d.offset += start
	d.size = d.size&^dynptrSizeMask | (end - start)
	return 0
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func dynptrIsNull(_ *rt.Run, a *[12]uint64) uint64 { return truth(dynptrAt(a[0]).data == 0) }

func dynptrIsReadOnly(_ *rt.Run, a *[12]uint64) uint64 {
	d := dynptrAt(a[0])
	return truth(d.data != 0 && d.readOnly())
}

func dynptrSize(_ *rt.Run, a *[12]uint64) uint64 {
	d := dynptrAt(a[0])
	if d.data == 0 {
		return uint64(uint32(errno.EINVAL.R0())) // the result is an unsigned 32-bit number
	}
	return d.len()
}

func dynptrClone(_ *rt.Run, a *[12]uint64) uint64 {
	d, clone := dynptrAt(a[0]), dynptrAt(a[1])
	*clone = *d
	if d.data == 0 {
		*clone = dynptr{}
		return errno.EINVAL.R0()
	}
	return 0
}

func dynptrCopy(r *rt.Run, a *[12]uint64) uint64 {
	dst, dstOff, src, srcOff, n := dynptrAt(a[0]), uint64(uint32(a[1])), dynptrAt(a[2]), uint64(uint32(a[3])), uint64(uint32(a[4]))
	from, to := src.slice(r, srcOff, n), uint64(0)
	if !dst.readOnly() {
		to = dst.slice(r, dstOff, n)
	}
	switch {
	case from != 0 && to != 0:
		copy(rt.Mem(to, int(n)), rt.Mem(from, int(n)))
	case from != 0:
		return dst.write(r, dstOff, from, n, 0).R0()
	case to != 0:
		return src.read(r, srcOff, to, n).R0()
	case !dst.has(dstOff, n) || !src.has(srcOff, n):
		return errno.E2BIG.R0()
	case n != 0:
		return errno.EINVAL.R0()
	}
	return 0
}

func dynptrMemset(r *rt.Run, a *[12]uint64) uint64 {
	d, off, n := dynptrAt(a[0]), uint64(uint32(a[1])), uint64(uint32(a[2]))
	switch {
	case d.readOnly():
		return errno.EINVAL.R0()
	case !d.has(off, n):
		return errno.E2BIG.R0()
	case n == 0:
		return 0
	}
	addr := d.slice(r, off, n)
	if addr == 0 {
		return errno.EINVAL.R0()
	}
	b := rt.Mem(addr, int(n))
	for i := range b {
		b[i] = byte(a[3])
	}
	return 0
}
