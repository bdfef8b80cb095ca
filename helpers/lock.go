package helpers

import (
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/spin"
	"github.com/skep-bpf/skep/verifier"
)

// Locks in values of maps. The verifier proves that a program holds one at a time, calls nothing that waits under it, and gives it back;
// a run that is abandoned under a lock gives it back, too.

var aSpinLock = arg(verifier.ArgSpinLock)

var _ = define(
	Helper{Proto: returns(verifier.RetVoid, sig(93, "spin_lock", nil, aSpinLock)), Fn: spinLock},
	Helper{Proto: returns(verifier.RetVoid, sig(94, "spin_unlock", nil, aSpinLock)), Fn: spinUnlock},
)

// resLock is bpf_res_spin_lock, which can fail, and bpf_res_spin_lock_irqsave: there are no interrupts.
func resLock(r *rt.Run, a *[12]uint64) uint64 { return spin.TryLock(r, a[0]).R0() }

// resUnlock gives it back.
func resUnlock(r *rt.Run, a *[12]uint64) uint64 { return spinUnlock(r, a) }

func spinLock(r *rt.Run, a *[12]uint64) uint64 {
	spin.Lock(r, a[0])
	return 0
}

func spinUnlock(r *rt.Run, a *[12]uint64) uint64 {
	spin.Unlock(r, a[0])
	return 0
}
