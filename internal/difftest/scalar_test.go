package difftest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/scalar"
)

var (
	scalarPrograms = flag.Int("scalar-programs", 1500, "programs that compare the scalar domain with the kernel's log")
	scalarSeed     = flag.Uint64("scalar-seed", 1, "seed of the first of them")
)

// TestScalarKernel compares package scalar with the running kernel: random straight-line programs on four unknown
// numbers, with conditional exits, are walked by both, and after each instruction every register that the kernel's log
// shows must read the same.
func TestScalarKernel(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	var total scalarCounts
	for i := range *scalarPrograms {
		seed := *scalarSeed + uint64(i)
		c, err := compareScalars(seed)
		if err != nil {
			t.Errorf("go test ./internal/difftest -run TestScalarKernel -scalar-seed %d -scalar-programs 1\n%v", seed, err)
			if total.failed++; total.failed == 5 {
				t.FailNow()
			}
		}
		total.regs += c.regs
		total.jumps += c.jumps
		total.forks += c.forks
	}
	t.Logf("%d programs: %d register states, %d jumps, %d forks compared", *scalarPrograms, total.regs, total.jumps, total.forks)
	if total.regs < 10**scalarPrograms {
		t.Errorf("only %d register states compared: the log is not understood", total.regs)
	}
}

type scalarCounts struct{ regs, jumps, forks, failed int }

// The registers that hold numbers, and the slot where the walk starts to be compared.
const (
	firstReg  = isa.R6
	scalarN   = 4
	setupSize = 2 * scalarN
)

// scalarProgram makes a program: four calls for unknown numbers, then n random instructions; each conditional jump
// goes to an exit of its own, so that no path is pruned.
func scalarProgram(seed uint64, n int) *program.Program {
	r := rand.New(rand.NewPCG(seed, 0x5ca1a4))
	var body []isa.Insn
	for i := range scalarN {
		body = append(body, isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: 7},
			isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: firstReg + isa.Reg(i)})
	}
	var jumps []int
	for len(body) < setupSize+n {
		in := randomScalarInsn(r)
		if in.Class() == isa.ClassJMP || in.Class() == isa.ClassJMP32 {
			jumps = append(jumps, len(body))
		}
		body = append(body, in)
		if in.AluOp() == isa.AluMOV && in.SrcIsReg() && (in.Class() == isa.ClassALU || in.Class() == isa.ClassALU64) {
			// A copy is linked to its source until something else is done to it.
			body = append(body, isa.Insn{Op: isa.ClassALU64 | isa.AluMUL, Dst: in.Dst, Imm: 1})
		}
	}
	exit := []isa.Insn{{Op: isa.ClassALU64 | isa.AluMOV}, {Op: isa.ClassJMP | isa.JmpEXIT}}
	body = append(body, exit...)
	for _, j := range jumps {
		body[j].Off = int16(len(body) - j - 1)
		body = append(body, exit...)
	}
	return &program.Program{Name: "scalar", Type: ebpf.SocketFilter, License: "GPL", Insns: body}
}

var scalarALU = []uint8{
	isa.AluADD, isa.AluSUB, isa.AluMUL, isa.AluAND, isa.AluOR, isa.AluXOR, isa.AluADD, isa.AluSUB, isa.AluMUL, isa.AluAND, isa.AluOR,
	isa.AluLSH, isa.AluRSH, isa.AluARSH, isa.AluLSH, isa.AluRSH, isa.AluARSH, isa.AluNEG, isa.AluEND, isa.AluDIV, isa.AluMOD,
	isa.AluMOV, isa.AluMOV, isa.AluAND, isa.AluAND,
}

var scalarJumps = []uint8{
	isa.JmpJEQ, isa.JmpJNE, isa.JmpJGT, isa.JmpJGE, isa.JmpJLT, isa.JmpJLE, isa.JmpJSGT, isa.JmpJSGE, isa.JmpJSLT, isa.JmpJSLE,
	isa.JmpJSET,
}

func randomScalarInsn(r *rand.Rand) isa.Insn {
	dst, src := firstReg+isa.Reg(r.IntN(scalarN)), firstReg+isa.Reg(r.IntN(scalarN))
	in := isa.Insn{Dst: dst}
	wide := r.IntN(2) == 0
	if r.IntN(3) == 0 {
		in.Op = isa.ClassJMP32 | scalarJumps[r.IntN(len(scalarJumps))]
		if wide {
			in.Op = isa.ClassJMP | in.Op&0xf0
		}
		if r.IntN(3) == 0 {
			in.Op, in.Src = in.Op|isa.SrcX, src
		} else {
			in.Imm = randomImm(r)
		}
		return in
	}
	in.Op = isa.ClassALU | scalarALU[r.IntN(len(scalarALU))]
	if wide {
		in.Op = isa.ClassALU64 | in.Op&0xf0
	}
	op := in.AluOp()
	switch op {
	case isa.AluNEG:
	case isa.AluEND:
		in.Imm = int32(16 << r.IntN(3))
		if !wide {
			in.Op |= uint8(r.IntN(2)) << 3
		}
	case isa.AluLSH, isa.AluRSH, isa.AluARSH:
		if r.IntN(4) == 0 {
			in.Op, in.Src = in.Op|isa.SrcX, src
			break
		}
		in.Imm = int32(r.IntN(32))
		if wide {
			in.Imm = int32([]int{r.IntN(64), 32, 63, 1}[r.IntN(4)])
		}
	case isa.AluMOV:
		in.Op, in.Src = in.Op|isa.SrcX, src
		if r.IntN(2) == 0 {
			in.Off = int16(8 << r.IntN(3))
			if !wide && in.Off == 32 {
				in.Off = 16
			}
		} else if r.IntN(3) == 0 {
			in.Op, in.Src, in.Imm = in.Op&^isa.SrcX, 0, randomImm(r)
		}
	default:
		if r.IntN(2) == 0 {
			in.Op, in.Src = in.Op|isa.SrcX, src
		} else {
			in.Imm = randomImm(r)
		}
		if op == isa.AluDIV || op == isa.AluMOD {
			if in.Off = int16(r.IntN(2)); !in.SrcIsReg() && in.Imm == 0 {
				in.Imm = 3
			}
		}
	}
	return in
}

func randomImm(r *rand.Rand) int32 {
	switch r.IntN(6) {
	case 0:
		return int32(r.IntN(32)) - 16
	case 1:
		return int32(1)<<r.IntN(32) - int32(r.IntN(3)) + 1
	case 2:
		return -int32(1)<<r.IntN(32) + int32(r.IntN(3)) - 1
	case 3:
		return int32(1)<<r.IntN(31) - 1
	case 4:
		return int32(r.IntN(1 << 10))
	}
	return int32(r.Uint32())
}

// scalarWalk is our side of the comparison: the states of the four registers along the path that the kernel walks
// first, and at each exit that a jump takes.
type scalarWalk struct {
	insns  []isa.Insn
	regs   [scalarN]scalar.Scalar
	taken  map[int][scalarN]scalar.Scalar // by jump
	forked map[int]scalar.Scalar          // the destination on the path that a mask instruction pushes, by slot
}

func (w *scalarWalk) reg(r isa.Reg) *scalar.Scalar { return &w.regs[r-firstReg] }

func (w *scalarWalk) src(in isa.Insn) scalar.Scalar {
	if in.SrcIsReg() {
		return *w.reg(in.Src)
	}
	return scalar.Imm(in.Imm)
}

// check resets what contradicts itself, as the kernel does.
func check(s *scalar.Scalar) {
	if s.Violation() != "" {
		s.Forget()
	}
}

// step walks one instruction and returns the next slot of the path.
func (w *scalarWalk) step(pc int) int {
	in := w.insns[pc]
	switch in.Class() {
	case isa.ClassALU, isa.ClassALU64:
		w.alu(pc, in)
		return pc + 1
	}
	op, is32 := in.JmpOp(), in.IsJump32()
	src := w.src(in)
	switch scalar.BranchTaken(w.reg(in.Dst), &src, op, is32) {
	case 1:
		return in.JumpTarget(pc)
	case -1:
		t := *w
		t.refine(in, op)
		w.taken[pc] = t.regs
		w.refine(in, scalar.Reverse(op))
	}
	return pc + 1
}

func (w *scalarWalk) refine(in isa.Insn, op uint8) {
	imm := scalar.Imm(in.Imm)
	src := &imm
	if in.SrcIsReg() {
		src = w.reg(in.Src)
	}
	scalar.Refine(w.reg(in.Dst), src, op, in.IsJump32())
	check(w.reg(in.Dst))
	check(src)
}

func (w *scalarWalk) alu(pc int, in isa.Insn) {
	d, is32, op := w.reg(in.Dst), in.Class() == isa.ClassALU, in.AluOp()
	switch op {
	case isa.AluMOV:
		switch {
		case !in.SrcIsReg() && is32:
			*d = scalar.Const(uint64(uint32(in.Imm)))
		case in.Off == 0:
			*d = w.src(in)
			if is32 {
				d.Zext32()
			}
		case is32:
			*d = w.src(in)
			d.SignExtend32(int(in.Off) / 8)
		default:
			*d = w.src(in)
			if size := int(in.Off) / 8; kernel.Later() {
				d.SignExtendLow(size)
			} else {
				d.SignExtend(size)
			}
		}
	case isa.AluEND:
		d.ByteSwap(int(in.Imm)/8, !is32 || in.SrcIsReg()) // the host is little-endian
	default:
		src := w.src(in)
		if narrow, forks := d.Forks(); forks && (op == isa.AluAND || op == isa.AluOR) && src.IsConst() {
			f := *d
			if narrow {
				f.SetConst32(0)
				d.SetConst32(^uint32(0))
			} else {
				f.SetConst(0)
				d.SetConst(^uint64(0))
			}
			w.forked[pc] = f
		}
		d.ALU(op, src, is32)
	}
	check(d)
}

var (
	insnLine = regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) .*?(?:; (R.*))?$`)
	fromLine = regexp.MustCompile(`^from (\d+) to (\d+): (R.*)$`)
	regText  = regexp.MustCompile(`R(\d+)=(P?scalar\([^()]*(?:\([^()]*\))?\)|\S+)`)
	idText   = regexp.MustCompile(`id=\d+([+-]\d+)?,?`)
)

// logRegs reads the registers that hold our numbers out of a state in the log, without marks of precision and ids.
func logRegs(s string) map[isa.Reg]string {
	regs := map[isa.Reg]string{}
	for _, m := range regText.FindAllStringSubmatch(s, -1) {
		n, _ := strconv.Atoi(m[1])
		if r := isa.Reg(n); r >= firstReg && r < firstReg+scalarN {
			regs[r] = idText.ReplaceAllString(strings.TrimPrefix(m[2], "P"), "")
		}
	}
	return regs
}

// scalarCompare is one comparison: the kernel's log on one side, a walk on the other.
type scalarCompare struct {
	scalarCounts
	prog   *program.Program
	log    string
	lines  []string // of log, not yet read
	walk   *scalarWalk
	before map[int][scalarN]scalar.Scalar // the state before each instruction of the first path
}

func compareScalars(seed uint64) (scalarCounts, error) {
	c := &scalarCompare{prog: scalarProgram(seed, 12+int(seed%30)), before: map[int][scalarN]scalar.Scalar{}}
	ok, log, err := kernel.Verify(c.prog, 2)
	if err != nil {
		return c.scalarCounts, err
	}
	if !ok {
		// Only the generator can be at fault: nothing here can be refused.
		return c.scalarCounts, fmt.Errorf("refused:\n%s", log)
	}
	c.log, c.lines = log, strings.Split(log, "\n")
	c.walk = &scalarWalk{insns: c.prog.Insns, taken: map[int][scalarN]scalar.Scalar{}, forked: map[int]scalar.Scalar{}}
	for i := range c.walk.regs {
		c.walk.regs[i] = scalar.Unknown()
	}
	if err := c.firstPath(); err != nil {
		return c.scalarCounts, err
	}
	return c.scalarCounts, c.otherPaths()
}

func (c *scalarCompare) fail(pc int, format string, a ...any) error {
	var b strings.Builder
	for i, s := range c.before[pc] {
		fmt.Fprintf(&b, "  R%d=%s\n", int(firstReg)+i, s.String())
	}
	text := isa.AppendText(nil, c.prog.Insns, pc, nil)
	return fmt.Errorf("insn %d: %s: %s\nbefore:\n%s%s", pc, text, fmt.Sprintf(format, a...), b.String(), c.log)
}

// equal compares the registers that a line of the log shows with ours.
func (c *scalarCompare) equal(pc int, where, line string, ours *[scalarN]scalar.Scalar) error {
	for r, kernel := range logRegs(line) {
		c.regs++
		if s := ours[r-firstReg].String(); s != kernel {
			return c.fail(pc, "%sR%d\nkernel %s\nours   %s", where, r, kernel, s)
		}
	}
	return nil
}

// firstPath follows the path that the kernel walks first, up to an exit.
func (c *scalarCompare) firstPath() error {
	pc := setupSize
	for i, line := range c.lines {
		m := insnLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, _ := strconv.Atoi(m[1])
		if at < setupSize {
			continue
		}
		if at != pc {
			return c.fail(pc, "the kernel goes to %d, we to %d", at, pc)
		}
		if c.prog.Insns[pc].Dst == 0 {
			c.lines = c.lines[i:]
			return nil // an exit block
		}
		c.before[pc] = c.walk.regs
		next := c.walk.step(pc)
		if err := c.equal(pc, "", m[2], &c.walk.regs); err != nil {
			return err
		}
		pc = next
	}
	return c.fail(pc, "the log ends here")
}

// otherPaths compares the states with which the kernel enters the paths that it left for later: those of undecided
// jumps, which must be ours, and of forks. After a fork a jump may belong to either path and is not compared.
func (c *scalarCompare) otherPaths() error {
	seen := map[int]bool{}
	forks := len(c.walk.forked)
	for _, line := range c.lines {
		m := fromLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		from, _ := strconv.Atoi(m[1])
		to, _ := strconv.Atoi(m[2])
		var err error
		switch {
		case from == to && forks == 0:
			err = c.fail(from, "the kernel forks, we do not")
		case from == to && forks == 1 && !seen[from]:
			err = c.forkTaken(from, m[3])
		case from != to && forks == 0:
			err = c.jumpTaken(from, to, m[3])
		}
		if err != nil {
			return err
		}
		seen[from] = true
	}
	for from := range c.walk.taken {
		if !seen[from] && forks == 0 {
			return c.fail(from, "we walk the jump, the kernel does not")
		}
	}
	for from := range c.walk.forked {
		if !seen[from] && forks == 1 {
			return c.fail(from, "we fork, the kernel does not")
		}
	}
	return nil
}

func (c *scalarCompare) forkTaken(from int, line string) error {
	f, ok := c.walk.forked[from]
	if !ok {
		return nil // a fork on the forked path
	}
	c.forks++
	st := c.before[from]
	st[c.prog.Insns[from].Dst-firstReg] = f
	return c.equal(from, "forked ", line, &st)
}

func (c *scalarCompare) jumpTaken(from, to int, line string) error {
	st, ok := c.walk.taken[from]
	if !ok {
		return c.fail(from, "the kernel walks the jump to %d, we do not", to)
	}
	c.jumps++
	return c.equal(from, "taken: ", line, &st)
}
