package isa_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/isa"
)

// TestDecode pins the encoding of both byte orders (RFC 9669 section 3).
func TestDecode(t *testing.T) {
	want := isa.Insn{Op: 0x7b, Dst: 10, Src: 3, Off: -8, Imm: 0x01020304}
	for _, c := range []struct {
		order binary.ByteOrder
		bytes []byte
	}{
		{binary.LittleEndian, []byte{0x7b, 0x3a, 0xf8, 0xff, 4, 3, 2, 1}},
		{binary.BigEndian, []byte{0x7b, 0xa3, 0xff, 0xf8, 1, 2, 3, 4}},
	} {
		got, err := isa.Decode(c.bytes, c.order)
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%v: %+v, %v", c.order, got, err)
		}
		if diff := cmp.Diff(c.bytes, isa.Encode(got, c.order)); diff != "" {
			t.Errorf("%v: %s", c.order, diff)
		}
	}
	if _, err := isa.Decode(make([]byte, 12), binary.LittleEndian); err == nil {
		t.Error("12 bytes decoded")
	}
}

// TestOperands pins registers read and written, with the version that an instruction came with.
func TestOperands(t *testing.T) {
	for text, want := range map[string]string{
		"r1 += r2":                    "reads 1 2 writes 1 v1",
		"w1 += 2":                     "reads 1 writes 1 v3",
		"r1 = r2":                     "reads 2 writes 1 v1",
		"r1 = 2":                      "reads writes 1 v1",
		"r1 = (s16)r2":                "reads 2 writes 1 v4",
		"r1 s/= r2":                   "reads 1 2 writes 1 v4",
		"r1 = -r1":                    "reads 1 writes 1 v1",
		"r1 = be32 r1":                "reads 1 writes 1 v1",
		"r1 = bswap32 r1":             "reads 1 writes 1 v4",
		"r1 = 5 ll":                   "reads writes 1 v1",
		"r1 = *(u8 *)(r2 + 0)":        "reads 2 writes 1 v1",
		"r1 = *(s8 *)(r2 + 0)":        "reads 2 writes 1 v4",
		"*(u8 *)(r1 + 0) = r2":        "reads 1 2 writes v1",
		"*(u8 *)(r1 + 0) = 2":         "reads 1 writes v1",
		"lock *(u64 *)(r1 + 0) += r2": "reads 1 2 writes v1",
		"lock *(u64 *)(r1 + 0) &= r2": "reads 1 2 writes v3",
		"r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)":   "reads 1 2 writes 2 v3",
		"r0 = atomic_cmpxchg((u64 *)(r1 + 0), r0, r2)": "reads 0 1 2 writes 0 v3",
		"r0 = load_acquire((u16 *)(r1 + 0))":           "reads 1 writes 0 v5",
		"store_release((u16 *)(r1 + 0), r2)":           "reads 1 2 writes v5",
		"r0 = *(u8 *)skb[r7 + 1]":                      "reads 6 7 writes 0 1 2 3 4 5 v1",
		"if r1 > r2 goto +1":                           "reads 1 2 writes v1",
		"if r1 < 2 goto +1":                            "reads 1 writes v2",
		"if w1 > w2 goto +1":                           "reads 1 2 writes v3",
		"gotol +1":                                     "reads writes v4",
		"may_goto +1":                                  "reads writes v5",
		"call 1":                                       "reads writes 0 1 2 3 4 5 v1",
		"exit":                                         "reads 0 writes v1",
	} {
		insns, _, err := asmtext.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := operands(insns[0]); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func operands(in isa.Insn) string {
	b := []string{"reads"}
	list := func(s isa.RegSet) {
		for r := range isa.Reg(16) {
			if s.Has(r) {
				b = append(b, string("0123456789abcdef"[r]))
			}
		}
	}
	list(in.Reads())
	b = append(b, "writes")
	list(in.Writes())
	return strings.Join(append(b, "v"+string('0'+rune(in.Info().Version))), " ")
}

func TestCheck(t *testing.T) {
	exit := isa.Insn{Op: 0x95}
	for _, c := range []struct {
		insns []isa.Insn
		want  string
	}{
		{[]isa.Insn{{Op: 0xb7, Imm: 3}, exit}, ""},
		{[]isa.Insn{exit, {Op: 0xff}}, "insn 1: unknown opcode ff (off 0, imm 0)"},
		{[]isa.Insn{{Op: 0xb7, Src: 3}}, "insn 0: b7: unused src register is 3"},
		{[]isa.Insn{{Op: 0xbf, Imm: 3}}, "insn 0: bf: unused immediate is 3"},
		{[]isa.Insn{{Op: 0x07, Off: 1}}, "insn 0: 07: unused offset is 1"},
		{[]isa.Insn{{Op: 0x37, Off: 1}}, ""},
		{[]isa.Insn{{Op: 0x05, Imm: 1}}, "insn 0: 05: unused immediate is 1"},
		{[]isa.Insn{{Op: 0x06, Imm: 1}}, ""},
		{[]isa.Insn{{Op: 0x95, Dst: 1}}, "insn 0: 95: unused dst register is 1"},
		{[]isa.Insn{{Op: 0x18}}, "insn 0: 64-bit immediate without its second half"},
		{[]isa.Insn{{Op: 0x18}, {Op: 0x18}}, "insn 0: second half of a 64-bit immediate has non-zero fields"},
	} {
		got := ""
		if err := isa.Check(c.insns); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.insns, got, c.want)
		}
	}
}

// TestTextAllocations: the text of an instruction costs no allocation.
func TestTextAllocations(t *testing.T) {
	insns, _, err := asmtext.Parse("r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)\ncall 1\nif w1 s<= 5 goto -1\nr1 = 5 ll")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		for pc := range insns {
			buf = isa.AppendText(buf[:0], insns, pc, nil)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
