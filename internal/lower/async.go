package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
)

// Callbacks that run on their own have a number, which is what the call that sets one passes on in place of an address; and an entry each,
// which takes the callback's arguments out of its run's context.

// setCallback emits bpf_timer_set_callback(r1 timer, r2 callback) or its like.
func (l *lowerer) setCallback() {
	start := len(l.out.Insns)
	if f := l.fact(l.pc).Callback; f > 0 {
		l.number(2, int(f))
	} else {
		l.byAddress(2, func(f int) { l.number(2, f) })
	}
	l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(l.env.SetCallback()), Sub: 2})
	l.inside(start)
}

// number emits r = the number of function f.
func (l *lowerer) number(r uint8, f int) {
	if l.throws[f] { // a proof says no, and nothing would catch it
		l.fail("function %s runs on its own, and can throw", l.p.Funcs[f].Name)
	}
	n := 0
	for n < len(l.async) && l.async[n] != f {
		n++
	}
	if n == len(l.async) {
		l.async = append(l.async, f)
	}
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: r, Imm: int64(n), Flag: ir.FlagImm})
}

// asyncEntries emits the entries.
func (l *lowerer) asyncEntries() {
	for _, f := range l.async {
		fn := ir.Func{Name: l.p.Funcs[f].Name + " (entry)", Start: len(l.out.Insns), Entry: true}
		l.pc = l.p.Funcs[f].Start
		for r := uint8(ir.CallbackArgs); r > 0; r-- { // the context's own register last
			l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: r, Src: 1, Off: int32(8 * (r - 1))})
		}
		l.emit(ir.Insn{Op: ir.Call, Off: l.funcOf[f], Sub: isa.MaxRegArgs})
		l.emit(ir.Insn{Op: ir.Exit})
		fn.End = len(l.out.Insns)
		l.out.Callbacks = append(l.out.Callbacks, len(l.out.Funcs))
		l.out.Funcs = append(l.out.Funcs, fn)
	}
}

// plainKfuncs are functions of the kernel that are only a call here. They are verified by the types of the kernel.
var plainKfuncs = map[string]bool{
	"bpf_iter_bits_new": true, "bpf_iter_bits_next": true, "bpf_iter_bits_destroy": true,
	"bpf_rcu_read_lock": true, "bpf_rcu_read_unlock": true, "bpf_preempt_disable": true, "bpf_preempt_enable": true,
	"bpf_local_irq_save": true, "bpf_local_irq_restore": true,
}

// plainKfunc emits the call of one of them, and reports whether kfunc k is one.
func (l *lowerer) plainKfunc(k int) bool {
	name := l.p.Kfuncs[k].Name
	if !l.kernels(k) || !plainKfuncs[name] {
		return false
	}
	h, args, ok := l.env.Kfunc(name)
	if ok {
		l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: uint8(args)})
	}
	return ok
}

// ownKfunc reports whether somebody registered kfunc k.
func (l *lowerer) ownKfunc(k int) bool {
	return k < len(l.env.Kfuncs) && (l.env.Kfuncs[k].Handle != 0 || l.env.Kfuncs[k].Native != 0)
}

// workqueue emits a call of the kernel's functions on work queues, and reports whether kfunc k is one.
func (l *lowerer) workqueue(k int) bool {
	if !l.kernels(k) || l.env.SetCallback == nil {
		return false
	}
	switch name := l.p.Kfuncs[k].Name; name {
	case "bpf_wq_set_callback_impl":
		l.setCallback()
		return true
	case "bpf_wq_init", "bpf_wq_start":
		h, args, ok := l.env.Kfunc(name)
		if ok {
			l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: uint8(args)})
		}
		return ok
	}
	return false
}
