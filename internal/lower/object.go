package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
)

// The kernel's functions on objects of programs, lists and trees, and on locks that can fail: host functions, but for the addition to a
// tree, which calls a function of the program.

// objectKfuncs are those that every program has; env.Kfunc has the host functions.
var objectKfuncs = map[string]bool{
	"bpf_obj_drop_impl": true, "bpf_percpu_obj_drop_impl": true, "bpf_refcount_acquire_impl": true,
	"bpf_list_push_front_impl": true, "bpf_list_push_back_impl": true, "bpf_list_pop_front": true, "bpf_list_pop_back": true,
	"bpf_list_front": true, "bpf_list_back": true, "bpf_rbtree_remove": true, "bpf_rbtree_first": true, "bpf_rbtree_root": true,
	"bpf_rbtree_left": true, "bpf_rbtree_right": true,
	"bpf_res_spin_lock": true, "bpf_res_spin_lock_irqsave": true, "bpf_res_spin_unlock": true, "bpf_res_spin_unlock_irqrestore": true,
}

// kernels reports whether kfunc k is the kernel's and proven to be called as such: what is proven of others holds of other functions.
func (l *lowerer) kernels(k int) bool {
	return !l.ownKfunc(k) && l.res != nil && l.env.Kfunc != nil
}

// object emits a call of one of them, and reports whether kfunc k is one.
func (l *lowerer) object(k int) bool {
	if !l.kernels(k) {
		return false
	}
	switch name := l.p.Kfuncs[k].Name; {
	case name == "bpf_obj_new_impl", name == "bpf_percpu_obj_new_impl":
		if l.env.NewObject == nil {
			return false
		}
		l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(l.env.NewObject(name == "bpf_percpu_obj_new_impl")), Sub: 2})
		return true
	case name == "bpf_rbtree_add_impl":
		h, _, ok := l.env.Kfunc(name)
		if ok {
			l.treeAdd(int64(h))
		}
		return ok
	case objectKfuncs[name]:
		h, args, ok := l.env.Kfunc(name)
		if ok {
			l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: uint8(args)})
		}
		return ok
	}
	return false
}

// treeAdd emits bpf_rbtree_add(r1 root, r2 node, r3 less): a walk down the tree, which asks less(node, the node there) for the way. host
// is objects.Add: r3 is the node there, 0 at first, r4 what less said; its result is the next node, or at most zero, which is the
// result of the call.
func (l *lowerer) treeAdd(host int64) {
	const (
		root = 6 + iota
		node
		at
		less
	)
	start := len(l.out.Insns)
	kept := []uint8{root, node, at}
	if l.fact(l.pc).Callback <= 0 {
		kept = append(kept, less)
	}
	l.saveRegs(ir.Store, kept)
	l.move(root, 1)
	l.move(node, 2)
	if len(kept) > 3 {
		l.move(less, 3)
	}
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: at, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Flag: ir.FlagImm})
	head := int32(len(l.out.Insns))
	l.emit(ir.Insn{Op: ir.Yield})
	l.move(1, root)
	l.move(2, node)
	l.move(3, at)
	l.move(4, 0)
	l.emit(ir.Insn{Op: ir.CallHost, Imm: host, Sub: 4})
	end := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.SLE, W: 8, Dst: 0, Flag: ir.FlagImm})
	l.move(at, 0)
	l.move(1, node)
	l.move(2, at)
	l.callCallback(less)
	l.emit(ir.Insn{Op: ir.Jmp, Flag: flagLocal, Off: head})
	l.land(end)
	l.saveRegs(ir.Load, kept)
	l.inside(start)
}
