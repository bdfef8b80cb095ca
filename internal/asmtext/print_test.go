package asmtext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// everyForm is one instruction of each opcode and variant, with fields that show when they are mixed up.
func everyForm() []isa.Insn {
	var out []isa.Insn
	for op := range 256 {
		for _, imm := range []int32{0, 3, -5, 16, 32, 64, 0x40, 0x41, 1, 0x51, 0x50, 0xa0, 0xa1, 0xe1, 0xf1, 0x100, 0x110} {
			for _, off := range []int16{0, 1, 8, 16, 32, -8} {
				in := isa.Insn{Op: uint8(op), Dst: 1, Src: 2, Off: off, Imm: imm}
				if k := in.Info().Kind; k == isa.KindInvalid || k == isa.KindCall || k == isa.KindLdImm64 || in.IsJump() {
					continue
				}
				out = append(out, stripped(in)...)
			}
		}
	}
	return out
}

// stripped zeroes fields until the instruction is valid.
func stripped(in isa.Insn) []isa.Insn {
	for mask := range 16 {
		c := in
		for bit, clear := range []func(){func() { c.Dst = 0 }, func() { c.Src = 0 }, func() { c.Off = 0 }, func() { c.Imm = 0 }} {
			if mask>>bit&1 != 0 {
				clear()
			}
		}
		if c.Info() == in.Info() && isa.Check([]isa.Insn{c}) == nil {
			return []isa.Insn{c}
		}
	}
	return nil
}

func TestTextRoundTrip(t *testing.T) {
	insns := everyForm()
	if len(insns) < 300 {
		t.Fatalf("only %d forms", len(insns))
	}
	checkRoundTrip(t, &program.Program{Insns: insns})
	odd := []isa.Insn{{Op: 0xff, Dst: 3}, {Op: 0x18, Src: 9}, {}, {Op: 0x85, Src: 1, Imm: 1000}, {Op: 0x05, Off: -500}, {Op: 0x95, Imm: 4}, {Op: 0x18}}
	checkRoundTrip(t, &program.Program{Insns: odd})
	p, err := Program(`
	.map m array 4 8 1
	.kfunc long k(long a)
	r1 = m ll; r2 = map[m][0]+4
	if r1 == 0 goto out
	r3 = f ll
	call f; call k; call 5
	may_goto out
	gotol out
out:	exit
f:	exit`, ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if text := checkRoundTrip(t, p); strings.Contains(text, ".raw") {
		t.Errorf("raw instructions in\n%s", text)
	}
}

func checkRoundTrip(t *testing.T, p *program.Program) string {
	t.Helper()
	text := Text(p)
	var head strings.Builder
	for _, m := range p.Maps {
		fmt.Fprintf(&head, ".map %s array 4 8 1\n", m.Name)
	}
	for _, k := range p.Kfuncs {
		fmt.Fprintf(&head, ".kfunc long %s(long a)\n", k.Name)
	}
	back, err := Program(head.String()+text, ProgramOptions{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(p.Insns, back.Insns); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
	return text
}

// TestLLVM assembles our text with LLVM's assembler: same bytes.
func TestLLVM(t *testing.T) {
	mc, err := exec.LookPath("llvm-mc-22")
	if err != nil {
		t.Skip("no llvm-mc-22 to compare with")
	}
	var insns []isa.Insn
	for _, in := range everyForm() {
		if in.Info().Kind == isa.KindLdInd {
			in.Imm = 0 // LLVM has no text for another
		}
		insns = append(insns, in)
	}
	insns = append(insns, isa.Insn{Op: 0x79, Dst: 1, Src: 11, Off: 56}, isa.Insn{Op: 0x7b, Dst: 11, Src: 1, Off: -56}, isa.Insn{Op: 0x18, Dst: 3, Imm: 5}, isa.Insn{Imm: 7})
	text := Text(&program.Program{Insns: insns})
	obj := filepath.Join(t.TempDir(), "a.o")
	cmd := exec.Command(mc, "-triple=bpfel", "-mcpu=v4", "-filetype=obj", "-o", obj)
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %.2000s", err, stderr.String())
	}
	f, err := elf.Open(obj)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	got, err := isa.Decode(code, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	for i := range insns {
		if i >= len(got) || got[i] != insns[i] {
			t.Fatalf("insn %d %s: %+v, LLVM's %+v", i, lines[i], insns[i], got[min(i, len(got)-1)])
		}
	}
}

// FuzzParse: text of any kind gives instructions or an error, and what it gives survives printing.
func FuzzParse(f *testing.F) {
	for _, s := range statements {
		f.Add(s.text)
		f.Add(s.log)
	}
	f.Add(".type xdp\n.map m array 4 8 1 rdonly_prog frozen data=00\n.struct s { int a; long b[3]; }\n.kfunc int k(struct s *p, u64 n) weak\n.func int f(int a) global\nexit")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<12 {
			return
		}
		_, _ = Program(src, ProgramOptions{Lines: true})
		insns, _, err := Parse(src)
		if err != nil || len(insns) == 0 {
			return
		}
		for i := range insns {
			insns[i].Src &= 15
		}
		text := Text(&program.Program{Insns: insns})
		back, _, err := Parse(text)
		if err != nil || !cmp.Equal(insns, back) && !strings.Contains(text, "map[") {
			t.Errorf("%q: %v\n%s", src, err, text)
		}
	})
}
