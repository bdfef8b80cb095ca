package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// reg is what is known of one register, spilled slot or stack argument. It is a plain value without pointers: types,
// maps and functions are small integers into tables of the environment, so that copying a state is a memmove.
type reg struct {
	scalar.Scalar // of a scalar: its value; of a pointer: its variable offset

	typ regType
	// rng is, for a packet pointer, how many bytes behind it (from its variable part) are known to be in the packet;
	// or atPktEnd, beyondPktEnd.
	// Of memory: the id of the dynptr that it is a slice of.
	rng int32
	// off is the fixed offset of a pointer; of a scalar with addConst set in id, its distance from the linked ones.
	off int32
	// aux is the map index (map pointers and values), frame number (stack pointers), size in bytes (mem), BTF type
	// index or function number.
	aux int32
	// id ties registers that share an unknown: null checks, packet ranges and equal scalars reach all of one id.
	id uint32
	// ref is the acquired reference that this pointer stands for, 0 if none.
	ref     uint32
	precise bool
}

// addConst64 and addConst32 mark an id whose register differs from the linked ones by the constant in off, added with 64
// or with 32 bits (BPF_ADD_CONST64, BPF_ADD_CONST32).
const (
	addConst64 = 1 << 31
	addConst32 = 1 << 30
	addConst   = addConst64 | addConst32
)

// Ranges of a packet pointer that was compared with the packet's end and found wanting.
const (
	atPktEnd     = -1
	beyondPktEnd = -2
)

// Operands. A frame has its eleven registers and, behind them, the seven slots of its outgoing stack arguments: what
// walks "all registers of a frame" therefore walks the slots too. An outgoing slot that is not initialised is notInit.
const (
	firstSlot   = isa.MaxReg
	numOperands = isa.MaxReg + isa.MaxStackArgs
)

// argOperand returns the operand that passes argument n (1..12) of a call.
func argOperand(n int) int {
	if n <= isa.MaxRegArgs {
		return n
	}
	return firstSlot + n - isa.MaxRegArgs - 1
}

// slot types: what one byte of the stack holds.
const (
	slotInvalid uint8 = iota
	slotSpill
	slotMisc
	slotZero
	slotIter   // an iterator, see iter.go
	slotIRQ    // the flag of a section without interrupts, see sections.go
	slotDynptr // half of a dynptr, see dynptr.go
)

const slotChars = "?rm0ifd"

// stackSlot is eight bytes of a frame's stack.
type stackSlot struct {
	spilled reg
	typ     [8]uint8
}

// isSpill reports whether the slot's most significant byte is part of a spilled register (is_spilled_reg).
func (s *stackSlot) isSpill() bool { return s.typ[7] == slotSpill }

// isScalarSpill reports whether the slot holds a spilled scalar, of any width.
func (s *stackSlot) isScalarSpill() bool { return s.isSpill() && s.spilled.typ == scalarValue }

// isScalarSpill64 reports whether the slot holds a whole spilled scalar.
func (s *stackSlot) isScalarSpill64() bool {
	return s.typ[0] == slotSpill && s.spilled.typ == scalarValue
}

// frame is one function invocation.
type frame struct {
	regs [numOperands]reg
	// stack[spi] covers bytes [-8*(spi+1), -8*spi) from the frame pointer.
	stack []stackSlot
	// read and written are the liveness of the stack slots: read since this checkpoint by what follows it; wholly
	// written since the last checkpoint. One bit per slot.
	read, written uint64
	marks         regMarks
	callsite      int32 // slot of the call, -1 in the outermost frame
	fn            int32
	no            int32
	// noArgLoads is set once no incoming stack argument may be loaded any more (stack_arguments.md section 2).
	noArgLoads bool
	// callback: a helper called this function; rounds counts how often the call that this frame stands at has entered its
	// callback, up to where the rounds end.
	callback bool
	rounds   int32
	// async: the function runs on its own, set by a call in a function that had entries such beginnings above it.
	async   asyncKind
	entries int32
}

// refKind says what an entry of the list of references is.
type refKind uint8

const (
	refObject refKind = iota
	refIRQ            // a section without interrupts
	refLock           // locks, see locks.go
	refResLock
	refResLockIRQ
)

// isLock reports whether the entry is a lock: its id is that of what the lock lies in.
func (k refKind) isLock() bool { return k >= refLock }

// refState is what the program holds: a reference to an object, a section without interrupts, or a lock and what that lies in.
type refState struct {
	id   uint32
	insn int32
	on   int32 // of locks
	kind refKind
}

// histEntry is one step of the way from the last checkpoint that cannot be retraced by counting down: a jump's target,
// a stack access through any register, or registers that gained their range together.
type histEntry struct {
	idx, prev int32
	flags     uint8
	spi       uint8
	frame     uint8
	linked    linkedRegs
}

const (
	histStack uint8 = 1 << iota // the instruction spilled or filled slot spi of the frame
	histDstStack
	histSrcStack
)

// state is one point of the walk: frames, references, and its place in the tree of checkpoints.
type state struct {
	frames [isa.MaxFrames]*frame
	cur    int // innermost frame
	refs   []refState
	sections
	hist []histEntry // since the checkpoint that is its parent

	parent       *state
	branches     int  // paths that start here and are not finished
	depth        int  // number of checkpoints above
	speculative  bool // only a processor that guesses takes this path (speculation.go)
	insn         int  // where the checkpoint stands
	first        int  // first instruction after the parent checkpoint
	last         int  // instruction before the current one
	mayGoto      int  // passes through may_goto
	unrolled     int  // entries into callbacks
	forced       bool // every scalar here and above is precise
	incomplete   bool // see backedge.go: compared without regard to precision
	target       bool // a back edge leads to it, and it is not finished
	sleeps       bool // it may: as the program, but callbacks that run on their own, as what calls them
	evicted      bool // no longer among those that are compared with
	hits, misses int
}

func (s *state) fr() *frame { return s.frames[s.cur] }

// eachReg calls f for every operand and spilled register of every frame (bpf_for_each_reg_in_vstate).
func (s *state) eachReg(f func(*reg)) {
	for i := 0; i <= s.cur; i++ {
		fr := s.frames[i]
		for j := range fr.regs {
			f(&fr.regs[j])
		}
		for j := range fr.stack {
			if fr.stack[j].isSpill() {
				f(&fr.stack[j].spilled)
			}
		}
	}
}

// copyFrom makes s a copy of o: frames, references and history are its own afterwards.
func (e *env) copyState(s, o *state) {
	for i := range s.frames {
		src := o.frames[i]
		if i > o.cur {
			src = nil
		}
		if src == nil {
			if s.frames[i] != nil {
				e.freeFrame(s.frames[i])
				s.frames[i] = nil
			}
			continue
		}
		if s.frames[i] == nil {
			s.frames[i] = e.newFrame()
		}
		copyFrame(s.frames[i], src)
	}
	frames, refs, hist := s.frames, append(s.refs[:0], o.refs...), append(s.hist[:0], o.hist...)
	*s = *o
	s.frames, s.refs, s.hist = frames, refs, hist
}

func copyFrame(dst, src *frame) {
	stack := append(dst.stack[:0], src.stack...)
	*dst = *src
	dst.stack = stack
}

func (e *env) newFrame() *frame {
	if n := len(e.freeFrames); n > 0 {
		f := e.freeFrames[n-1]
		e.freeFrames = e.freeFrames[:n-1]
		return f
	}
	return new(frame)
}

func (e *env) freeFrame(f *frame) { e.freeFrames = append(e.freeFrames, f) }

func (e *env) freeState(s *state) {
	for i, f := range s.frames {
		if f != nil {
			e.freeFrame(f)
			s.frames[i] = nil
		}
	}
}

// growStack makes the frame's stack cover size bytes.
func (e *env) growStack(f *frame, size int) {
	n := (size + 7) / 8
	for len(f.stack) < n {
		f.stack = append(f.stack, stackSlot{})
	}
	if d := &e.funcs[f.fn].depth; *d < n*8 {
		*d = n * 8
	}
}

// setUnknown makes r a scalar of any value.
func (e *env) setUnknown(r *reg) {
	*r = reg{Scalar: scalar.Unknown(), typ: scalarValue, precise: e.opt.ExactStates}
}

// setConst makes r the scalar v.
func (e *env) setConst(r *reg, v uint64) {
	*r = reg{Scalar: scalar.Const(v), typ: scalarValue, precise: e.opt.ExactStates}
}

// setPtr makes r an unmodified pointer of type t.
func setPtr(r *reg, t regType) { *r = reg{Scalar: scalar.Const(0), typ: t} }

func (r *reg) setNotInit() { *r = reg{} }

// isNull reports whether r is the scalar 0.
func (r *reg) isNull() bool { return r.typ == scalarValue && r.Var.IsConst() && r.Var.Value == 0 }

// width returns the number of bits the value of r needs.
func (r *reg) fits(bits int) bool { return bits >= 64 || r.Umax>>bits == 0 }

func (r *reg) clearID() { r.id, r.off = 0, 0 }

// isPointer reports whether r is anything but a scalar (__is_pointer_value without leaks).
func (r *reg) isPointer() bool { return r.typ != scalarValue }
