package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// StateView is what the concrete-against-abstract test sees of a state: the registers of the innermost frame, and where
// in the chain of calls that frame is.
type StateView struct {
	Depth int // 0 in the outermost function
	Regs  [isa.MaxReg]RegView
}

// RegView is one register's claim.
type RegView struct {
	// Known is false where the register is not initialised: then nothing is claimed.
	Known bool
	// Scalar: the register's value is in Value. Else it is a pointer, and Value is its variable offset, Off its fixed one.
	Scalar bool
	Value  scalar.Scalar
	Off    int32
	Kind   PtrKind
	OrNull bool
	// Frame is, for a pointer to the stack, the frame it points into.
	Frame int
}

// visit shows the current state to the test hook.
func (e *env) visit() {
	v := StateView{Depth: e.st.cur}
	for i := range v.Regs {
		r := &e.st.fr().regs[i]
		v.Regs[i] = RegView{Known: r.typ != notInit, Scalar: r.typ == scalarValue, Value: r.Scalar, Off: r.off,
			Kind: r.typ.ptrKind(), OrNull: r.typ.mayBeNull()}
		if r.typ == ptrToStack {
			v.Regs[i].Frame = int(r.aux)
		}
	}
	e.opt.Visit(e.insn, &v)
}
