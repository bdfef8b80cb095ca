package helpers

import (
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Objects that programs allocate, the pointers, lists and trees that own them, and those of which every CPU slot has a copy. The verifier
// proves what owns what, that lists and trees are used under their locks, and of which type an object is; who allocates is up to the
// loader, which knows the program's types (lower.Env.NewObject).

var (
	aPerCPU  = arg(verifier.ArgPerCPU)
	aPlace   = arg(verifier.ArgKptrPlace)
	aPointer = argNull(verifier.ArgKptr)
)

func releasesSecond(p proto) proto { p.ReleaseArg = 2; return p }

var _ = define(
	Helper{Proto: returns(verifier.RetThisCPUOrNull, sig(153, "per_cpu_ptr", nil, aPerCPU, aAny)), Fn: perCPUPtr},
	Helper{Proto: returns(verifier.RetThisCPU, sig(154, "this_cpu_ptr", nil, aPerCPU)), Fn: thisCPUPtr},
	Helper{Proto: acquires(releasesSecond(returns(verifier.RetKptrOrNull, sig(194, "kptr_xchg", nil, aPlace, aPointer)))), Fn: kptrXchg},
)

func kptrXchg(r *rt.Run, a *[12]uint64) uint64 { return objects.Exchange(r, a[0], a[1]) }

func perCPUPtr(_ *rt.Run, a *[12]uint64) uint64 {
	if cpu := uint32(a[1]); uint64(cpu) < uint64(rt.CPUs()) {
		return objects.Copy(a[0], int(cpu))
	}
	return 0
}

func thisCPUPtr(r *rt.Run, a *[12]uint64) uint64 { return objects.Copy(a[0], r.CPU) }

func objDrop(r *rt.Run, a *[12]uint64) uint64 {
	objects.Give(r, a[0])
	return 0
}

func refcountAcquire(r *rt.Run, a *[12]uint64) uint64 { return objects.Acquire(r, a[0]) }

func listPushFront(r *rt.Run, a *[12]uint64) uint64 { return objects.Push(r, a[0], a[1], false).R0() }
func listPushBack(r *rt.Run, a *[12]uint64) uint64  { return objects.Push(r, a[0], a[1], true).R0() }
func listPopFront(r *rt.Run, a *[12]uint64) uint64  { return objects.Pop(r, a[0], false) }
func listPopBack(r *rt.Run, a *[12]uint64) uint64   { return objects.Pop(r, a[0], true) }
func listFront(_ *rt.Run, a *[12]uint64) uint64     { return objects.Peek(a[0], false) }
func listBack(_ *rt.Run, a *[12]uint64) uint64      { return objects.Peek(a[0], true) }

// treeAdd is what the loop in place of bpf_rbtree_add calls, not what a program calls; see objects.Add.
func treeAdd(r *rt.Run, a *[12]uint64) uint64 {
	next, e := objects.Add(r, a[0], a[1], a[2], a[3] != 0)
	if e != 0 {
		return e.R0()
	}
	return next
}

func treeRemove(r *rt.Run, a *[12]uint64) uint64 { return objects.Remove(r, a[0], a[1]) }
func treeFirst(_ *rt.Run, a *[12]uint64) uint64  { return objects.First(a[0]) }
func treeRoot(_ *rt.Run, a *[12]uint64) uint64   { return objects.Top(a[0]) }
func treeLeft(_ *rt.Run, a *[12]uint64) uint64   { return objects.Child(a[0], a[1], false) }
func treeRight(_ *rt.Run, a *[12]uint64) uint64  { return objects.Child(a[0], a[1], true) }
