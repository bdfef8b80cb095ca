package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file checks accesses of the context and of what only contexts point to. What a program type's context looks like
// is progtype's to say.

// checkCtx checks an access of the context (check_ctx_access).
func (e *env) checkCtx(op, off, size int, kind accessKind) error {
	if err := e.fixedOff(op, false); err != nil {
		return err
	}
	if e.target != nil {
		return e.checkCtxBTF(off, size, kind)
	}
	o := progtype.Read
	switch {
	case kind == accessWrite:
		o = progtype.Write
	case e.prog.Insns[e.insn].Mode() == isa.ModeMEMSX:
		o = progtype.ReadSigned
	}
	a := e.ctx.Access(off, size, o)
	if !a.OK || e.hiddenCtx(off, kind) {
		err := e.reject(CodePermission, "invalid bpf_context access off=%d size=%d", off, size)
		e.printLine(e.insn, "; ")
		return err
	}
	if s := a.Field.Struct(); s != "" {
		if _, ok := e.kernelStruct(s); !ok {
			return e.unsupported("fields of %v contexts that point to struct %s: the types of the kernel are not known", e.prog.Kind(), s)
		}
	}
	e.maxCtx = max(e.maxCtx, off+size)
	return nil
}

// fieldTypes are what loads of a context's pointer fields give.
var fieldTypes = map[progtype.Field]regType{
	progtype.FieldPacket:           ptrToPacket,
	progtype.FieldPacketMeta:       ptrToPacketMeta,
	progtype.FieldPacketEnd:        ptrToPacketEnd,
	progtype.FieldSockCommonOrNull: ptrToSockCommon | maybeNull,
	progtype.FieldSocket:           ptrToSocket,
	progtype.FieldSocketOrNull:     ptrToSocket | maybeNull,
	progtype.FieldFlowKeys:         ptrToFlowKeys,
	progtype.FieldTPBuffer:         ptrToTPBuffer,
}

// loadCtx gives d what a context field holds: a number, or one of the pointers a context has.
func (e *env) loadCtx(d *reg, off, size int) {
	if e.target != nil {
		e.loadCtxBTF(d, off, size)
		return
	}
	field := e.ctx.Access(off, size, progtype.Read).Field
	if s, ok := e.kernelStruct(field.Struct()); ok {
		setPtr(d, ptrToBTF|trusted)
		d.aux = s
		return
	}
	t, ok := fieldTypes[field]
	if !ok {
		return
	}
	setPtr(d, t)
	if t.mayBeNull() {
		e.idGen++
		d.id = e.idGen
	}
}

// checkCtxBytes checks a context that is plain memory, passed as such.
func (e *env) checkCtxBytes(op, size int, kind accessKind) error {
	if err := e.fixedOff(op, false); err != nil {
		return err
	}
	if e.target != nil {
		return e.checkCtxBTF(size-1, 1, kind)
	}
	o := progtype.Read
	if kind == accessWrite {
		o = progtype.Write
	}
	if !e.ctx.Access(size-1, 1, o).OK {
		return e.reject(CodePermission, "invalid bpf_context access off=%d size=1", size-1)
	}
	e.maxCtx = max(e.maxCtx, size)
	return nil
}

// checkFlowKeys checks an access of the keys that a flow dissector fills; pointers to them never move by what is not
// known (check_flow_keys_access).
func (e *env) checkFlowKeys(off, size int) error {
	if off < 0 || off+size > progtype.FlowKeysSize {
		return e.reject(CodeBounds, "invalid access to flow keys off=%d size=%d", off, size)
	}
	return nil
}

// checkTPBuffer checks an access of a writable tracepoint's buffer. Its size is known only where the program is attached:
// the kernel compares it with the end of the last access then (check_tp_buffer_access).
func (e *env) checkTPBuffer(op, off, size int) error {
	r := &e.st.fr().regs[op]
	switch {
	case off < 0:
		return e.reject(CodeBounds, "%s invalid tracepoint buffer access: off=%d, size=%d", operandName(op), off, size)
	case !r.Var.IsConst() || r.Var.Value != 0:
		return e.reject(CodePointerMath, "%s invalid variable buffer offset: off=%d, var_off=%s", operandName(op), off, r.Var)
	}
	return nil
}
