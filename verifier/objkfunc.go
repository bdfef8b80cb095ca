package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Kfuncs of the kernel that act on special fields and on objects of the program. Their calls do more than a prototype says, so that each
// is described here, by its name: what its arguments are, and what happens besides.

// fieldArg is what an argument of such a kfunc is.
type fieldArg uint8

const (
	argIgnored   fieldArg = iota // filled in by the kernel
	argNumber                    // any number
	argTypeID                    // the number of a type of the program
	argObject                    // an object that the program owns
	argPerCPU                    // an object that the program owns, one for every CPU
	argCounted                   // an object that is counted, owned or not
	argListHead                  // a list
	argListNode                  // the member by which an object can be in a list
	argTreeRoot                  // a tree
	argOwnedNode                 // the member by which an object can be in a tree, of one that is in none
	argTreeNode                  // the same of an object that is in the tree
	argLess                      // a function that compares two objects of a tree
	argWorkqueue                 // a bpf_wq
	argItsMap                    // the map that it lies in
	argLater                     // a function that it calls
	argResLock                   // a bpf_res_spin_lock
	argIRQFlag                   // the flag on the stack of a lock that keeps interrupts away
	argPlain                     // a pointer that every kfunc can take
	argTaskWork                  // a bpf_task_work
)

// fieldKfunc is one kfunc: what its arguments are, and what a call of it does besides.
type fieldKfunc struct {
	args []fieldArg
	call func(e *env, c *fieldCall) error
}

// fieldCall is what the arguments of one call say.
type fieldCall struct {
	*kfuncMeta
	owned    bool        // the object of argCounted is owned
	target   *btf.Struct // the type of the object among the arguments
	root     *field      // the list or tree among the arguments
	async    asyncMap
	callback int
}

var fieldKfuncs map[string]*fieldKfunc

func init() {
	push := &fieldKfunc{[]fieldArg{argListHead, argListNode, argIgnored, argNumber}, (*env).callPush}
	pop := &fieldKfunc{[]fieldArg{argListHead}, (*env).callTake}
	peek := &fieldKfunc{[]fieldArg{argListHead}, (*env).callPeek}
	root := &fieldKfunc{[]fieldArg{argTreeRoot}, (*env).callPeek}
	child := &fieldKfunc{[]fieldArg{argTreeRoot, argTreeNode}, (*env).callPeek}
	work := &fieldKfunc{[]fieldArg{argPlain, argTaskWork, argItsMap, argLater, argIgnored}, (*env).callTaskWork}
	fieldKfuncs = map[string]*fieldKfunc{
		"bpf_obj_new_impl":          {[]fieldArg{argTypeID, argIgnored}, (*env).callNew},
		"bpf_percpu_obj_new_impl":   {[]fieldArg{argTypeID, argIgnored}, (*env).callNewPerCPU},
		"bpf_obj_drop_impl":         {[]fieldArg{argObject, argIgnored}, (*env).callDrop},
		"bpf_percpu_obj_drop_impl":  {[]fieldArg{argPerCPU, argIgnored}, (*env).callDrop},
		"bpf_refcount_acquire_impl": {[]fieldArg{argCounted, argIgnored}, (*env).callRefcount},
		"bpf_list_push_front_impl":  push,
		"bpf_list_push_back_impl":   push,
		"bpf_list_pop_front":        pop,
		"bpf_list_pop_back":         pop,
		"bpf_list_front":            peek,
		"bpf_list_back":             peek,
		"bpf_rbtree_add_impl":       {[]fieldArg{argTreeRoot, argOwnedNode, argLess, argIgnored, argNumber}, (*env).callTreeAdd},
		"bpf_rbtree_remove":         {[]fieldArg{argTreeRoot, argTreeNode}, (*env).callTake},
		"bpf_rbtree_first":          root,
		"bpf_rbtree_root":           root,
		"bpf_rbtree_left":           child,
		"bpf_rbtree_right":          child,

		"bpf_wq_init":              {[]fieldArg{argWorkqueue, argItsMap, argNumber}, (*env).callNumber},
		"bpf_wq_start":             {[]fieldArg{argWorkqueue, argNumber}, (*env).callNumber},
		"bpf_wq_set_callback_impl": {[]fieldArg{argWorkqueue, argLater, argNumber, argIgnored}, (*env).callLater},

		"bpf_res_spin_lock":   {[]fieldArg{argResLock}, (*env).callResLock},
		"bpf_res_spin_unlock": {[]fieldArg{argResLock}, (*env).callResUnlock},

		"bpf_res_spin_lock_irqsave":          {[]fieldArg{argResLock, argIRQFlag}, (*env).callResLockIRQ},
		"bpf_res_spin_unlock_irqrestore":     {[]fieldArg{argResLock, argIRQFlag}, (*env).callResUnlockIRQ},
		"bpf_task_work_schedule_signal_impl": work,
		"bpf_task_work_schedule_resume_impl": work,
	}
}

// fieldProtos are the prototypes of those that skep runs by itself, and of those that begin and end RCU sections, for machines without
// types of a kernel. Where there is a kernel, its own are used: what they name is checked by fieldKfuncs and not by type.
var fieldProtos = func() map[string]*btf.FuncProto {
	push := kernelProto(tInt, "head node meta__ign off", tMem, tMem, tMem, tU64)
	of := kernelProto(tMem, "root", tMem)
	child := kernelProto(tMem, "root node", tMem, tMem)
	obj := kernelProto(tMem, "local_type_id__k meta__ign", tU64, tMem)
	drop := kernelProto(tVoid, "p__alloc meta__ign", tMem, tMem)
	return map[string]*btf.FuncProto{
		"bpf_obj_new_impl": obj, "bpf_percpu_obj_new_impl": obj, "bpf_obj_drop_impl": drop, "bpf_percpu_obj_drop_impl": drop,
		"bpf_refcount_acquire_impl": kernelProto(tMem, "p__refcounted_kptr meta__ign", tMem, tMem),
		"bpf_list_push_front_impl":  push, "bpf_list_push_back_impl": push,
		"bpf_list_pop_front": of, "bpf_list_pop_back": of, "bpf_list_front": of, "bpf_list_back": of,
		"bpf_rbtree_add_impl":            kernelProto(tInt, "root node less meta__ign off", tMem, tMem, tMem, tMem, tU64),
		"bpf_res_spin_lock":              kernelProto(tInt, "lock", tMem),
		"bpf_res_spin_unlock":            kernelProto(tVoid, "lock", tMem),
		"bpf_res_spin_lock_irqsave":      kernelProto(tInt, "lock flags__irq_flag", tMem, tMem),
		"bpf_res_spin_unlock_irqrestore": kernelProto(tVoid, "lock flags__irq_flag", tMem, tMem),
		"bpf_wq_init":                    kernelProto(tInt, "wq p__map flags", tMem, tMem, tU32),
		"bpf_wq_start":                   kernelProto(tInt, "wq flags", tMem, tU32),
		"bpf_wq_set_callback_impl":       kernelProto(tInt, "wq callback_fn flags aux__prog", tMem, tMem, tU32, tMem),
		kfuncRCULock:                     kernelProto(tVoid, ""), kfuncRCUUnlock: kernelProto(tVoid, ""),
		"bpf_rbtree_remove": child, "bpf_rbtree_first": of, "bpf_rbtree_root": of, "bpf_rbtree_left": child, "bpf_rbtree_right": child,
	}
}()

// callField checks a call of one of these kfuncs.
func (e *env) callField(f *fieldKfunc, m *kfuncMeta) error {
	c := &fieldCall{kfuncMeta: m}
	if len(m.proto.Params) != len(f.args) {
		return e.reject(CodeBTF, "kernel function %s has another prototype", m.k.Name)
	}
	for i, a := range f.args {
		if err := e.fieldArg(i, a, c); err != nil {
			return err
		}
	}
	if m.flag(program.KfuncRelease) && c.ref == 0 {
		return e.reject(CodeReference, "release kernel function %s expects refcounted PTR_TO_BTF_ID", m.k.Name)
	}
	return f.call(e, c)
}

// afterCall is what every call does to the registers.
func (e *env) afterCall() *reg {
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	return &fr.regs[isa.R0]
}

// fieldArg checks argument i (check_kfunc_args).
func (e *env) fieldArg(i int, a fieldArg, c *fieldCall) error {
	if a == argIgnored {
		return nil
	}
	op := i + 1
	e.scratch(isa.Reg(op))
	r := &e.st.fr().regs[op]
	switch a {
	case argNumber, argTypeID:
		return e.numberArg(op, a, c)
	case argPlain:
		_, err := e.checkKfuncArg(i, c.kfuncMeta)
		return err
	}
	if e.validArgs(c.kfuncMeta) && (r.isNull() || r.typ.mayBeNull()) {
		return e.reject(CodeNull, "Possibly NULL pointer passed to trusted %s", trustedName(i))
	}
	if err := e.noteKfuncRef(op, c.kfuncMeta); err != nil {
		return err
	}
	if a == argObject || a == argPerCPU {
		if err := e.kfuncTrust(op, c.kfuncMeta); err != nil {
			return err
		}
	}
	if err := e.kfuncOffset(op, c.kfuncMeta); err != nil {
		return err
	}
	return e.fieldPointer(i, op, a, c)
}

func (e *env) numberArg(op int, a fieldArg, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	if r.typ != scalarValue {
		return e.reject(CodeType, "R%d is not a scalar", op)
	}
	if a == argNumber {
		return nil
	}
	if !r.Var.IsConst() {
		return e.reject(CodeType, "R%d must be a known constant", op)
	}
	c.constant = r.Var.Value
	return e.markPrecise(op)
}

// fieldPointer checks a pointer by what it has to point to.
func (e *env) fieldPointer(i, op int, a fieldArg, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	switch a {
	case argObject, argPerCPU:
		return e.ownedArg(i, r, a, c)
	case argCounted:
		return e.countedArg(i, r, c)
	case argListHead:
		return e.rootArg(i, op, fieldListHead, c)
	case argTreeRoot:
		return e.rootArg(i, op, fieldRBRoot, c)
	case argListNode:
		return e.insertArg(i, op, fieldListNode, c)
	case argOwnedNode:
		return e.insertArg(i, op, fieldRBNode, c)
	case argTreeNode:
		return e.inTreeArg(op, c)
	case argLess, argLater:
		if r.typ != ptrToFunc {
			return e.reject(CodeType, "arg%d expected pointer to func", i)
		}
		c.callback = int(r.aux)
		return nil
	case argItsMap:
		if r.typ != constPtrToMap {
			return e.reject(CodeType, "pointer in R%d isn't map pointer", op)
		}
		return e.itsMap(op, c)
	case argTaskWork:
		if r.typ != ptrToMapValue {
			return e.reject(CodeType, "arg#%d doesn't point to a map value", i)
		}
		return e.asyncField(op, fieldTaskWork, &c.async)
	case argIRQFlag:
		if r.typ != ptrToStack {
			return e.reject(CodeType, "arg#%d doesn't point to an irq flag on stack", i)
		}
		return nil
	case argWorkqueue:
		if r.typ != ptrToMapValue {
			return e.reject(CodeType, "arg#%d doesn't point to a map value", i)
		}
		return e.asyncField(op, fieldWorkqueue, &c.async)
	case argResLock:
		if r.typ != ptrToMapValue && r.typ != ptrToBTF|memAlloc {
			return e.reject(CodeType, "arg#%d doesn't point to map value or allocated object", i)
		}
		return nil // its own call looks at it
	}
	return e.reject(CodeInternal, "verifier internal error: argument of kind %d", a)
}

// itsMap checks the map that is passed with what lies in a value of it.
func (e *env) itsMap(op int, c *fieldCall) error {
	if e.records[c.async.idx].rec.has(fieldTaskWork) {
		return e.sameMap(op, &c.async, "bpf_task_work")
	}
	return e.sameMap(op, &c.async, "workqueue")
}

// ownedArg checks an object that is given back.
func (e *env) ownedArg(i int, r *reg, a fieldArg, c *fieldCall) error {
	switch {
	case r.typ == ptrToBTF|memAlloc:
		if a != argObject {
			return e.reject(CodeType, "arg#%d expected for bpf_obj_drop_impl()", i)
		}
	case r.typ == ptrToBTF|memAlloc|percpu:
		if a != argPerCPU {
			return e.reject(CodeType, "arg#%d expected for bpf_percpu_obj_drop_impl()", i)
		}
	default:
		return e.reject(CodeType, "arg#%d expected pointer to allocated object", i)
	}
	if err := e.referenced(r); err != nil {
		return err
	}
	return e.sameObject(r)
}

// sameObject checks that a call gets objects of one type on all paths: which fields they have is compiled in.
func (e *env) sameObject(r *reg) error {
	if !e.has(oneObject) {
		return nil
	}
	a := &e.aux[e.insn]
	if a.object != 0 && a.object != r.aux+1 {
		return e.reject(CodeType, "same call cannot be used with different types\n"+
			"use one call for each type: inline the static function that holds the call,\nor mark the callee with __attribute__((nomerge))")
	}
	a.object = r.aux + 1
	return nil
}

func (e *env) referenced(r *reg) error {
	if r.ref == 0 {
		return e.reject(CodeReference, "allocated object must be referenced")
	}
	return nil
}

// countedArg checks an object whose count goes up.
func (e *env) countedArg(i int, r *reg, c *fieldCall) error {
	if !isAllocated(r.typ) {
		return e.reject(CodeType, "arg#%d is neither owning or non-owning ref", i)
	}
	if !e.recordAt(r).has(fieldRefcount) {
		return e.reject(CodeType, "arg#%d doesn't point to a type with bpf_refcount field", i)
	}
	c.owned = r.typ&nonOwn == 0 && r.ref != 0
	c.target, _ = e.types[r.aux].(*btf.Struct)
	return e.sameObject(r)
}

// callNumber is a call that returns a number and does nothing else that a proof would know of.
func (e *env) callNumber(*fieldCall) error {
	e.setUnknown(e.afterCall())
	return nil
}

// callLater sets a callback that runs later, where it may sleep.
func (e *env) callLater(c *fieldCall) error {
	return e.callAsync(c, asyncZero)
}

// callTaskWork sets a callback that runs later in a task, where it may sleep.
func (e *env) callTaskWork(c *fieldCall) error { return e.callAsync(c, asyncAny) }

func (e *env) callAsync(c *fieldCall, kind asyncKind) error {
	if err := e.pushAsync(c.callback, &c.async, kind, true); err != nil {
		return e.why(err, "kfunc %s#%d failed callback verification", c.k.Name, e.prog.Insns[e.insn].Imm)
	}
	return e.callNumber(c)
}

// callResLock takes a lock that can fail: with the number 0 it is held.
func (e *env) callResLock(*fieldCall) error {
	return e.resLockOutcomes(&resLock)
}

// callResLockIRQ is callResLock of a lock that keeps interrupts away as well, by a flag on the stack.
func (e *env) callResLockIRQ(*fieldCall) error { return e.resLockOutcomes(&resLockIRQ) }

func (e *env) callResUnlockIRQ(*fieldCall) error {
	if err := e.releaseLock(int(isa.R1), &resLockIRQ); err != nil {
		return err
	}
	if err := e.restoreIRQ(&kfuncArg{i: 1, op: int(isa.R2)}, irqLock); err != nil {
		return err
	}
	e.afterCall().setNotInit()
	return nil
}

// resLockOutcomes walks both outcomes of an attempt to take the lock in r1 (check_kfunc_call): that it fails is for later.
func (e *env) resLockOutcomes(l *lock) error {
	failed, err := e.push(e.insn+1, e.insn)
	if err != nil {
		return err
	}
	if err := e.takeLock(int(isa.R1), l); err != nil {
		return err
	}
	if l.kind == refResLockIRQ {
		if err := e.saveIRQ(&kfuncArg{i: 1, op: int(isa.R2)}, irqLock); err != nil {
			return err
		}
	}
	e.setConst(e.afterCall(), 0)
	fr := failed.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	r0 := &fr.regs[isa.R0]
	e.setUnknown(r0)
	r0.Smin, r0.Smax, r0.S32min, r0.S32max = -maxErrno, -1, -maxErrno, -1
	r0.Sync()
	return nil
}

func (e *env) callResUnlock(*fieldCall) error {
	if err := e.releaseLock(int(isa.R1), &resLock); err != nil {
		return err
	}
	e.afterCall().setNotInit()
	return nil
}
