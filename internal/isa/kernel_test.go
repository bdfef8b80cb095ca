package isa_test

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

var logInsn = regexp.MustCompile(`(?m)^(\d+): (\([0-9a-f]{2}\) [^;\n]*)`)

// TestKernelText compares the text of every opcode, with several values in its fields, with what the running kernel's
// verifier prints for it at log level 2. Instructions that the kernel refuses before it prints them are not counted.
func TestKernelText(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("no kernel to compare with: ", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[isa.Kind]map[uint8]bool{}
	for op := range 256 {
		for range 24 {
			insns := append(prologue(), candidate(r, uint8(op))...)
			for range 4 {
				insns = append(insns, isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: isa.R0})
			}
			insns = append(insns, isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT})
			for _, in := range compareLog(t, insns) {
				k := in.Info().Kind
				if seen[k] == nil {
					seen[k] = map[uint8]bool{}
				}
				seen[k][in.Op] = true
			}
		}
	}
	total := 0
	for k := isa.KindALU; k <= isa.KindExit; k++ {
		if len(seen[k]) == 0 && k != isa.KindAddrSpaceCast && k != isa.KindMayGoto {
			t.Errorf("kind %d was never compared", k)
		}
		total += len(seen[k])
	}
	t.Logf("%d opcodes compared", total)
	if total < 120 {
		t.Errorf("only %d opcodes compared with the kernel's text", total)
	}
}

// prologue initialises r0..r9 and 64 bytes of stack: r0..r4 scalars, r5 frame pointer, r6 context (for packet loads).
func prologue() []isa.Insn {
	p := []isa.Insn{{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: 6, Src: 1}}
	for r := range isa.Reg(5) {
		p = append(p, isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: r, Imm: int32(r) + 1})
	}
	p = append(p, isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: 5, Src: 10})
	for off := int16(-64); off < 0; off += 8 {
		p = append(p, isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: 10, Off: off, Imm: 9})
	}
	return p
}

// candidate makes an instruction of that opcode that the kernel is likely to walk: unused fields are zero.
func candidate(r *rand.Rand, op uint8) []isa.Insn {
	in := isa.Insn{Op: op, Dst: isa.Reg(r.IntN(5)), Src: isa.Reg(r.IntN(5)), Imm: int32(r.IntN(8) + 1)}
	switch in.Class() {
	case isa.ClassALU, isa.ClassALU64:
		in.Off = []int16{0, 0, 1, 8, 16, 32}[r.IntN(6)]
		if in.AluOp() == isa.AluEND {
			in.Off, in.Src, in.Imm = 0, 0, []int32{16, 32, 64}[r.IntN(3)]
		} else if in.SrcIsReg() {
			in.Imm = 0
		} else {
			in.Src = 0
		}
		if in.AluOp() == isa.AluNEG {
			in.Off, in.Src, in.Imm = 0, 0, 0
		}
	case isa.ClassLDX:
		in.Src, in.Off, in.Imm = 5, int16(-8*(1+r.IntN(8))), 0
	case isa.ClassST:
		in.Dst, in.Src, in.Off = 5, 0, int16(-8*(1+r.IntN(8)))
	case isa.ClassSTX:
		in.Dst, in.Off, in.Imm = 5, int16(-8*(1+r.IntN(8))), 0
		if in.Mode() == isa.ModeATOMIC {
			in.Imm = []int32{0, 0x40, 0x50, 0xa0, 1, 0x41, 0x51, 0xa1, 0xe1, 0xf1, 0x100, 0x110}[r.IntN(12)]
			if in.Imm == isa.AtomicLoadAcq {
				in.Dst, in.Src = in.Src, in.Dst
			}
		}
	case isa.ClassLD:
		if in.IsLdImm64() {
			in.Src, in.Imm = 0, int32(r.Uint32())
			return []isa.Insn{in, {Imm: int32(r.Uint32() >> r.IntN(32))}}
		}
		in.Dst = 0
		if in.Mode() == isa.ModeABS {
			in.Src = 0
		}
	default:
		in.Off = int16(r.IntN(4))
		in = jumpCandidate(r, in)
	}
	return []isa.Insn{in}
}

func jumpCandidate(r *rand.Rand, in isa.Insn) isa.Insn {
	switch in.Op {
	case isa.ClassJMP | isa.JmpJA, isa.ClassJMP | isa.JmpJCOND:
		in.Dst, in.Src, in.Imm = 0, 0, 0
	case isa.ClassJMP32 | isa.JmpJA:
		in.Dst, in.Src, in.Imm, in.Off = 0, 0, int32(in.Off), 0
	case isa.ClassJMP | isa.JmpCALL:
		in = isa.Insn{Op: in.Op, Imm: []int32{5, 7, 1, 211, 4000, -3}[r.IntN(6)]}
	case isa.ClassJMP | isa.JmpEXIT:
		in = isa.Insn{Op: in.Op}
	default:
		if in.SrcIsReg() {
			in.Imm = 0
		} else {
			in.Src, in.Imm = 0, []int32{-1, 1, 2, 0x7fffffff}[r.IntN(4)]
		}
	}
	return in
}

// compareLog verifies the program in the kernel and compares each instruction's line; it returns the ones compared.
func compareLog(t *testing.T, insns []isa.Insn) map[int]isa.Insn {
	t.Helper()
	p := &program.Program{Name: "text", Type: ebpf.SocketFilter, License: "GPL", Insns: insns}
	_, log, err := kernel.Verify(p, 2)
	if err != nil && !errors.Is(err, kernel.ErrNoVerdict) && log == "" {
		return nil
	}
	compared := map[int]isa.Insn{}
	for _, m := range logInsn.FindAllStringSubmatch(log, -1) {
		pc, err := strconv.Atoi(m[1])
		if err != nil || pc >= len(insns) {
			t.Fatalf("log names instruction %s of %d", m[1], len(insns))
		}
		want := strings.TrimSpace(m[2])
		if got := string(isa.AppendText(nil, insns, pc, nil)); got != want {
			t.Errorf("insn %+v: text %q, the kernel's %q", insns[pc], got, want)
		}
		compared[pc] = insns[pc]
	}
	return compared
}

// TestHelperNames asks the kernel for the name of every helper.
func TestHelperNames(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("no kernel to compare with: ", err)
	}
	compared := 0
	for id := range int32(220) {
		insns := append(prologue(), isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: id}, isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT})
		if _, ok := compareLog(t, insns)[len(prologue())]; ok {
			compared++
		}
	}
	if compared < 212 {
		t.Errorf("only %d helper names compared", compared)
	}
	for _, name := range []string{"bpf_map_lookup_elem", "map_lookup_elem"} {
		if id, ok := isa.HelperID(name); !ok || id != 1 {
			t.Errorf("%s is %d, %v", name, id, ok)
		}
	}
}
