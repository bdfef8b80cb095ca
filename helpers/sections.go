package helpers

import "github.com/skep-bpf/skep/internal/rt"

// Sections in which the kernel holds something off: they are nothing here. A run keeps its processor's slot to itself, and what is
// freed stays until the runs that may have seen it have ended.

func init() {
	for _, name := range []string{"bpf_rcu_read_lock", "bpf_rcu_read_unlock", "bpf_preempt_disable", "bpf_preempt_enable"} {
		kfuncs[name] = &Kfunc{fn: zero}
	}
	kfuncs["bpf_local_irq_save"] = &Kfunc{Args: 1, fn: irqSave}
	kfuncs["bpf_local_irq_restore"] = &Kfunc{Args: 1, fn: zero}
}

func irqSave(_ *rt.Run, a *[12]uint64) uint64 {
	store64(a[0], 0)
	return 0
}
