package amd64

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/skep-bpf/skep/internal/abi"
)

// TestLayout checks the frame of every combination of incoming slots, outgoing slots, BPF stack, saved registers and
// kind of function: its parts do not overlap, rsp is aligned where it must be, and what the prologue does the epilogue
// undoes.
func TestLayout(t *testing.T) {
	n := 0
	for in := 0; in <= abi.MaxSlot; in++ {
		for out := 0; out <= abi.MaxSlot; out++ {
			for stack := 0; stack <= 512; stack += 8 {
				for set := range 16 {
					for flags := range 64 {
						k := needs{in: in, out: out, stack: stack, entry: flags&1 != 0, fp: flags&2 != 0, mayGoto: flags&4 != 0,
							calls: flags&8 != 0, leaves: flags&16 != 0, tailCall: flags&32 != 0}
						if k.entry && in != 0 || thin(k, set) && flags != 2|8 && flags != (7*in+5*out+stack/8+3*set)%64 {
							continue
						}
						for i, r := range calleeSaved {
							if set>>i&1 != 0 {
								k.saved |= 1 << r
							}
						}
						if n++; !checkLayout(t, k) {
							return
						}
					}
				}
			}
		}
	}
	t.Logf("%d frames", n)
}

// thin reports whether two kinds of function are enough for this frame, one of them a different one for each; for the
// others every kind is checked. Every combination of slots, stack and saved registers is checked in any case.
func thin(k needs, set int) bool {
	return !k.fp && k.stack%64 != 0 || (k.in+k.out+set)%3 != 0 && k.stack%24 != 0
}

// machine follows the stack instructions of a prologue or epilogue. Addresses are relative to rsp at entry, where the
// return address lies.
type machine struct {
	rsp, rbp int64
	mem      map[int64]x86asm.Reg // which register's entry value a word holds
	regs     map[x86asm.Reg]x86asm.Reg
	low      int64
	returned bool
}

const callerBP = -1 << 40 // stands for the caller's rbp

func (m *machine) run(t *testing.T, code []byte) {
	for len(code) > 0 {
		in, err := x86asm.Decode(code, 64)
		if err != nil {
			t.Fatalf("% x: %v", code, err)
		}
		code = code[in.Len:]
		switch in.Op {
		case x86asm.PUSH:
			m.rsp -= 8
			r := in.Args[0].(x86asm.Reg)
			if m.mem[m.rsp] = m.value(r); r == x86asm.RBP && m.rbp == callerBP {
				m.mem[m.rsp] = x86asm.RBP
			}
		case x86asm.POP:
			if r := in.Args[0].(x86asm.Reg); r == x86asm.RBP {
				m.popBP(t)
			} else {
				m.regs[r] = m.mem[m.rsp]
				m.rsp += 8
			}
		case x86asm.LEAVE:
			m.rsp = m.rbp
			m.popBP(t)
		case x86asm.SUB:
			m.rsp -= int64(in.Args[1].(x86asm.Imm))
		case x86asm.ADD:
			m.rsp += int64(in.Args[1].(x86asm.Imm))
		case x86asm.MOV:
			if in.Args[0] == x86asm.RBP {
				m.rbp = m.rsp
			} else {
				m.rsp = m.rbp
			}
		case x86asm.RET:
			m.returned = true
		default:
			t.Fatalf("unexpected %v", in)
		}
		m.low = min(m.low, m.rsp)
	}
}

// value returns whose entry value r holds.
func (m *machine) value(r x86asm.Reg) x86asm.Reg {
	if v, ok := m.regs[r]; ok {
		return v
	}
	return r
}

func (m *machine) popBP(t *testing.T) {
	if m.mem[m.rsp] != x86asm.RBP {
		t.Fatal("rbp is taken from a word that does not hold it")
	}
	m.rbp = callerBP
	m.rsp += 8
}

var x86Reg = map[uint8]x86asm.Reg{rbx: x86asm.RBX, r13: x86asm.R13, r14: x86asm.R14, r15: x86asm.R15}

func checkLayout(t *testing.T, k needs) bool {
	f := layout(k)
	m := &machine{rbp: callerBP, mem: map[int64]x86asm.Reg{}, regs: map[x86asm.Reg]x86asm.Reg{}}
	if k.entry {
		m.rbp = 0 // given by the trampoline
	}
	var a asm
	f.prologue(&a)
	m.run(t, a.buf)
	bad := func(what string) bool {
		t.Errorf("%+v: %+v: %s (rsp %d, rbp %d)", k, f, what, m.rsp, m.rbp)
		return false
	}

	out := int64(abi.AMD64.Outgoing(k.out))
	base := m.rbp // end of the BPF stack
	stack := int64(0)
	if k.fp {
		stack += int64(k.stack)
	}
	if k.mayGoto {
		stack += 8
		if f.counter != int(stack) {
			return bad("the may_goto counter is not below the BPF stack")
		}
	}
	if (k.fp || k.mayGoto || k.in > 1 || k.tailCall) && m.rbp == callerBP {
		return bad("no frame pointer")
	}
	if k.in > 1 && m.rbp+int64(abi.AMD64.Args[6].Callee) != 8 {
		return bad("argument 7 is not where it is loaded from")
	}
	if base == callerBP {
		base = 0
	}
	saved := map[x86asm.Reg]bool{}
	for addr, r := range m.mem {
		if addr < m.rsp+out && k.out > 0 && r != x86asm.RAX {
			return bad("a saved register lies in the outgoing area")
		}
		if addr >= base-stack && addr < base && (addr != m.rbp) && r != x86asm.RAX {
			return bad("a saved register lies in the BPF stack")
		}
		saved[r] = true
	}
	moved := k.calls || k.leaves || k.tailCall && !k.entry
	if moved && m.rsp > base-stack-out {
		return bad("the frame is too small")
	}
	if (k.calls || k.tailCall && !k.entry) && (m.rsp+8)%16 != 0 { // rsp at entry is 8 beyond a multiple of 16
		return bad("rsp is not aligned")
	}
	for i, r := range calleeSaved {
		if !k.entry && (k.saved>>r&1 != 0 || k.tailCall) && !saved[x86Reg[r]] {
			return bad("register " + x86Reg[calleeSaved[i]].String() + " is not saved")
		}
	}
	for n := 7; n < 6+k.out; n++ {
		s := f.outSlot(n)
		addr := m.rsp + int64(s.disp)
		if s.base == rbp {
			addr = m.rbp + int64(s.disp)
		}
		if addr != m.rsp+int64(8*(n-7)) {
			return bad("an outgoing argument is not where the callee loads it from")
		}
	}
	if d := f.depth(); int64(d) < 8-m.low {
		return bad("depth is too small")
	}
	a.buf = a.buf[:0]
	f.epilogue(&a)
	m.run(t, a.buf)
	switch {
	case !m.returned || m.rsp != 0:
		return bad("rsp is wrong at the return")
	case !k.entry && m.rbp != callerBP:
		return bad("rbp is not restored")
	}
	for r, v := range m.regs {
		if saved[r] && r != x86asm.R11 && r != v {
			return bad("a register comes back with another's value")
		}
	}
	if len(a.buf) != f.epilogueSize() {
		return bad("epilogueSize")
	}
	return true
}
