package difftest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file makes random programs that handle what contexts point to: loaded, moved, spilled, compared, passed on.

// pointerGen makes one of them. r6 holds the context.
type pointerGen struct {
	r      *rand.Rand
	fields []ctxAccess // permitted reads, pointers several times
	insns  []isa.Insn
}

func newPointerGen(k ctxKind, seed uint64) *pointerGen {
	g := &pointerGen{r: rand.New(rand.NewPCG(seed, 0xc7c))}
	for _, a := range k.accesses() {
		switch x := k.context().Access(a.off, a.size, a.op); {
		case !x.OK || a.op == progtype.Write:
		case x.Field != progtype.FieldScalar:
			for range 40 {
				g.fields = append(g.fields, a)
			}
		default:
			g.fields = append(g.fields, a)
		}
	}
	return g
}

func (g *pointerGen) emit(in ...isa.Insn) { g.insns = append(g.insns, in...) }

// reg is a register that a statement uses; few of them, so that they meet.
func (g *pointerGen) reg() isa.Reg {
	return []isa.Reg{isa.R0, isa.R2, isa.R7, isa.R8, isa.R9}[g.r.IntN(5)]
}

func (g *pointerGen) size() (int, uint8) {
	n := 1 << g.r.IntN(4)
	return n, sizeBits[n]
}

func (g *pointerGen) near() int16 { return int16(g.r.IntN(7)*8 - 8) }

// statement adds one statement.
func (g *pointerGen) statement() {
	dst, src := g.reg(), g.reg()
	_, bits := g.size()
	switch g.r.IntN(14) {
	case 0, 1, 2:
		if len(g.fields) > 0 {
			in := g.fields[g.r.IntN(len(g.fields))].insn()
			in.Dst, in.Src = dst, isa.R6
			g.emit(in)
		}
	case 3:
		g.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: dst, Src: src})
	case 4:
		g.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluADD, Dst: dst, Imm: int32(g.near())})
	case 5:
		g.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluAND, Dst: src, Imm: 7}, isa.Insn{Op: isa.ClassALU64 | isa.AluADD | isa.SrcX, Dst: dst, Src: src})
	case 6, 7:
		g.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | bits, Dst: dst, Src: src, Off: g.near()})
	case 8:
		g.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | bits, Dst: dst, Off: g.near(), Imm: 1})
	case 9:
		slot := int16(-8 * (1 + g.r.IntN(2)))
		g.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Src: src, Off: slot},
			isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: dst, Src: isa.R10, Off: slot})
	case 10:
		g.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeATOMIC | isa.SizeDW, Dst: dst, Src: src, Off: g.near(), Imm: isa.AtomicADD})
	case 11:
		op := []uint8{isa.JmpJEQ, isa.JmpJNE}[g.r.IntN(2)]
		g.emit(isa.Insn{Op: isa.ClassJMP | op, Dst: dst, Off: int16(g.r.IntN(3))})
	case 12:
		g.lookup(src)
	case 13:
		op := []uint8{isa.JmpJGT, isa.JmpJLE, isa.JmpJEQ, isa.JmpJNE, isa.JmpJNE}[g.r.IntN(5)]
		g.emit(isa.Insn{Op: isa.ClassJMP | op | isa.SrcX, Dst: dst, Src: src, Off: int16(g.r.IntN(3))},
			isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: isa.R9, Src: dst, Off: g.near()})
	}
}

// lookup passes a register to a helper that wants memory.
func (g *pointerGen) lookup(src isa.Reg) {
	g.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: isa.R2, Src: src},
		isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: isa.R1, Src: isa.PseudoMapFD}, isa.Insn{},
		isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: 1})
}

// program makes the program: every register starts as a number or as a field of the context.
func (g *pointerGen) program(k ctxKind) *program.Program {
	g.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: isa.R6, Src: isa.R1})
	for _, r := range []isa.Reg{isa.R0, isa.R2, isa.R7, isa.R8, isa.R9} {
		in := isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Imm: 8}
		if len(g.fields) > 0 && g.r.IntN(3) > 0 {
			in = g.fields[g.r.IntN(len(g.fields))].insn()
			in.Src = isa.R6
		}
		in.Dst = r
		g.emit(in)
	}
	for range 1 + g.r.IntN(8) {
		g.statement()
	}
	// jumps go past the end of what was made, at most by two
	g.emit(insnOne, insnOne, insnOne, insnExit)
	p := k.program(g.insns...)
	p.Maps = []program.Map{{Name: "m", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1}}
	if k.typ == ebpf.XDP && g.r.IntN(2) == 0 {
		p.Maps[0].Type, p.Maps[0].KeySize, p.Maps[0].ValueSize = ebpf.XSKMap, 4, 4
	}
	return p
}

// TestContextPointers compares verdicts and words of random programs on what contexts point to.
func TestContextPointers(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of pointers: ", err)
	}
	var report ctxReport
	accepted := 0
	for _, k := range ctxKinds() {
		for i := range *verdictPrograms / 4 {
			seed := *verdictSeed + uint64(i)
			p := newPointerGen(k, seed).program(k)
			v, err := judge(p, 0, 0)
			if err == nil && strings.Contains(v.OurReason, "skep does not verify this yet") {
				continue
			}
			if err == nil && v.Ours && v.Kernel {
				accepted++
			}
			report.add(t, fmt.Sprintf("%v, -verdict-seed %d", k, seed), disagree(p, v, err))
		}
	}
	t.Logf("%d programs, %d accepted by both, %d differ", report.programs, accepted, report.differ)
	if accepted*10 < report.programs {
		t.Error("hardly any program is valid: the generator finds nothing out")
	}
}
