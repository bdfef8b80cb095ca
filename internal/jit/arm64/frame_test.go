package arm64

import (
	"fmt"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
)

// TestLayout checks the frame of every combination of incoming slots, outgoing slots, BPF stack, saved registers and kind of
// function: its parts do not overlap, sp is aligned at every step and moved once, and what the prologue does the epilogue undoes.
func TestLayout(t *testing.T) {
	n := 0
	for in := 0; in <= abi.MaxSlot; in++ {
		for out := 0; out <= abi.MaxSlot; out++ {
			for stack := 0; stack <= ir.MaxStack; stack += 8 {
				for set := range 16 {
					for flags := range 32 {
						k := needs{in: in, out: out, stack: stack, entry: flags&1 != 0, fp: flags&2 != 0, mayGoto: flags&4 != 0,
							calls: flags&8 != 0, tailCall: flags&16 != 0}
						if k.entry && in != 0 || (stack%64 != 0 || (in+out+set)%3 != 0) && flags != 2|8 && flags != (7*in+5*out+stack/8+3*set)%32 {
							continue // of most frames two kinds of function are enough, one of them another for each
						}
						for i, r := range calleeSaved {
							if set>>i&1 != 0 {
								k.saved |= 1 << r
							}
						}
						n++
						if err := checkLayout(k); err != nil {
							t.Fatalf("%+v: %+v: %v", k, layout(k), err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d frames", n)
}

// machine follows the instructions of a prologue or epilogue. Addresses are relative to sp at entry. A register's value is its own
// name plus a large number until something else is loaded.
type machine struct {
	x     [32]int64 // 31 is sp
	mem   map[int64]int64
	moves int // subtractions from sp other than by a store of a pair
}

const entryValue = 1 << 40 // plus a register's number: what it holds at entry

func newMachine(entry bool) *machine {
	m := &machine{mem: map[int64]int64{}}
	for i := range m.x {
		m.x[i] = entryValue + int64(i)
	}
	m.x[sp] = 0
	if entry {
		m.x[fp] = 0
	}
	return m
}

// number returns the register an operand names, 31 for sp and for zero.
func number(a arm64asm.Arg) int {
	switch r := a.(type) {
	case arm64asm.Reg:
		return int(r-arm64asm.X0) & 31
	case arm64asm.RegSP:
		return int(arm64asm.Reg(r)-arm64asm.X0) & 31
	}
	return -1
}

func (m *machine) run(code []byte) (returned bool, err error) {
	for ; len(code) > 0; code = code[4:] {
		in, err := arm64asm.Decode(code)
		if err != nil {
			return false, err
		}
		d := number(in.Args[0])
		switch in.Op {
		case arm64asm.RET:
			return true, nil
		case arm64asm.STP, arm64asm.LDP, arm64asm.STR, arm64asm.LDR:
			if err := m.transfer(in); err != nil {
				return false, err
			}
		case arm64asm.SUB, arm64asm.ADD:
			var v int64
			fmt.Sscanf(in.Args[2].String(), "#0x%x", &v)
			if in.Op == arm64asm.SUB {
				v, m.moves = -v, m.moves+1
			}
			m.x[d] = m.x[number(in.Args[1])] + v
		case arm64asm.MOV:
			m.x[d] = m.x[number(in.Args[1])]
		default:
			return false, fmt.Errorf("unexpected %v", in)
		}
		if m.x[sp]%16 != 0 {
			return false, fmt.Errorf("sp is %d after %v", m.x[sp], in)
		}
	}
	return false, nil
}

// transfer follows a load or store of one or two registers.
func (m *machine) transfer(in arm64asm.Inst) error {
	k := 1
	if in.Op == arm64asm.STP || in.Op == arm64asm.LDP {
		k = 2
	}
	a := in.Args[k].(arm64asm.MemImmediate)
	base, disp := int(arm64asm.Reg(a.Base)-arm64asm.X0)&31, int64(0)
	text := a.String()
	for i := range text {
		if text[i] == '#' {
			fmt.Sscanf(text[i:], "#%d", &disp)
		}
	}
	addr := m.x[base]
	if a.Mode != arm64asm.AddrPostIndex {
		addr += disp
	}
	if a.Mode == arm64asm.AddrPreIndex || a.Mode == arm64asm.AddrPostIndex {
		m.x[base] += disp
	}
	for i := range k {
		r := number(in.Args[i])
		at := addr + 8*int64(i)
		if in.Op == arm64asm.STP || in.Op == arm64asm.STR {
			if _, twice := m.mem[at]; twice {
				return fmt.Errorf("%v writes %d again", in, at)
			}
			m.mem[at] = m.x[r]
			continue
		}
		v, ok := m.mem[at]
		if !ok {
			return fmt.Errorf("%v reads %d, where nothing was saved", in, at)
		}
		m.x[r] = v
	}
	return nil
}

func checkLayout(k needs) error {
	f := layout(k)
	m := newMachine(k.entry)
	var a asm
	f.prologue(&a)
	if _, err := m.run(a.buf); err != nil {
		return err
	}
	if m.moves > 1 {
		return fmt.Errorf("sp is moved %d times", m.moves)
	}
	if err := checkAreas(k, f, m); err != nil {
		return err
	}
	if low := min(m.x[sp], lowest(m.mem)); int64(f.depth()) < -low {
		return fmt.Errorf("depth is %d, the frame reaches %d", f.depth(), low)
	}
	for _, r := range append(calleeSaved[:], lr) { // the body destroys them
		if r == lr && !k.calls && (k.entry || !k.tailCall) || r != lr && k.saved>>r&1 == 0 && !k.tailCall {
			continue
		}
		m.x[r] = -1
	}
	m.x[regs[0]] = 77
	a.buf = a.buf[:0]
	f.epilogue(&a)
	returned, err := m.run(a.buf)
	switch {
	case err != nil:
		return err
	case !returned || m.x[sp] != 0 || m.x[lr] != entryValue+lr || m.x[x0] != 77:
		return fmt.Errorf("it returns %v to %#x with sp %d, x0 %d", returned, m.x[lr], m.x[sp], m.x[x0])
	case len(a.buf) != f.epilogueSize():
		return fmt.Errorf("epilogueSize is wrong")
	case k.entry && m.x[fp] != 0 || !k.entry && m.x[fp] != entryValue+fp:
		return fmt.Errorf("fp is not restored")
	}
	for _, r := range calleeSaved {
		if !k.entry && m.x[r] != entryValue+int64(r) {
			return fmt.Errorf("x%d comes back as %#x", r, m.x[r])
		}
	}
	return nil
}

func lowest(mem map[int64]int64) (low int64) {
	for at := range mem {
		low = min(low, at)
	}
	return low
}

// checkAreas looks at the machine between prologue and epilogue.
func checkAreas(k needs, f frame, m *machine) error {
	stack, out := int64(0), int64(abi.ARM64.Outgoing(k.out))
	if k.fp {
		stack += int64(k.stack)
	}
	if k.mayGoto {
		if stack += 8; f.counter != int(stack) {
			return fmt.Errorf("the may_goto counter is not below the BPF stack")
		}
	}
	if (k.fp || k.mayGoto || k.in > 3 || k.tailCall) && m.x[fp] == entryValue+fp {
		return fmt.Errorf("no frame pointer")
	}
	if k.in > 3 && m.x[fp]+int64(abi.ARM64.Args[8].Callee) != 0 {
		return fmt.Errorf("argument 9 is not where it is loaded from")
	}
	bottom := m.x[fp] - stack // of the BPF stack
	if m.x[fp] == entryValue+fp {
		bottom = 0
	}
	if (k.calls || k.tailCall && !k.entry) && bottom < m.x[sp]+out {
		return fmt.Errorf("the BPF stack is not in the frame")
	}
	for at := range m.mem {
		if at < 0 && (at >= bottom && at < bottom+stack || at < m.x[sp]+out) || at >= 16 {
			return fmt.Errorf("a register is saved at %d", at)
		}
	}
	for n := 9; n < 6+k.out; n++ {
		if s := f.outSlot(n); s.base != sp || int(s.disp) != 8*(n-9) {
			return fmt.Errorf("outgoing argument %d is stored at %v", n, s)
		}
	}
	for off := int32(-8); off >= int32(-stack); off -= 8 {
		s := f.stackMem(8, off)
		if m.x[s.base]+int64(s.disp) != m.x[fp]+int64(off) {
			return fmt.Errorf("the word at r10%d is accessed at %v", off, s)
		}
	}
	return nil
}
