package asmtext

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
)

// Each line: text, and the kernel log's text of what it assembles to ("" if the same).
var statements = []struct{ text, log string }{
	{"r1 = 1", "(b7) r1 = 1"},
	{"w1 = -1", "(b4) w1 = -1"},
	{"r1 = 0xffffffff", "(b7) r1 = -1"},
	{"r1 = r2", "(bf) r1 = r2"},
	{"r1 = (s8)r2", "(bf) r1 = (s8)r2"},
	{"w1 = (s16) w2", "(bc) w1 = (s16)w2"},
	{"r1 = (s32)r2", "(bf) r1 = (s32)r2"},
	{"r1 = -r1", "(87) r1 = -r1"},
	{"r2 += -8", "(07) r2 += -8"},
	{"r2 s>>= 3", "(c7) r2 s>>= 3"},
	{"w2 s/= w3", "(3c) w2 s/= w3"},
	{"r2 s%= 5", "(97) r2 s%= 5"},
	{"r2 %= r3", "(9f) r2 %= r3"},
	{"r2 <<= 32", "(67) r2 <<= 32"},
	{"r2 >>= r1", "(7f) r2 >>= r1"},
	{"r0 = le16 r0", "(d4) r0 = le16 r0"},
	{"r0 = be64 r0", "(dc) r0 = be64 r0"},
	{"r0 = bswap32 r0", "(d7) r0 = bswap32 r0"},
	{"r1 = addr_space_cast(r2, 0, 1)", "(bf) r1 = addr_space_cast(r2, 0, 1)"},
	{"r0 = *(u64 *)(r10 - 8)", "(79) r0 = *(u64 *)(r10 -8)"},
	{"r0 = *(s8 *)(r1 +0)", "(91) r0 = *(s8 *)(r1 +0)"},
	{"r0 = *(u16*)(r1)", "(69) r0 = *(u16 *)(r1 +0)"},
	{"*(u64 *)(r10 - 2*8) = r1", "(7b) *(u64 *)(r10 -16) = r1"},
	{"*(u8 *)(r10 - 8) = w1", "(73) *(u8 *)(r10 -8) = r1"},
	{"*(u32 *)(r10 - 8) = -1", "(62) *(u32 *)(r10 -8) = -1"},
	{"r2 = *(u64 *)(r11 +8)", "(79) r2 = *(u64 *)(r11 +8)"},
	{"*(u64 *)(r11 -8) = r1", "(7b) *(u64 *)(r11 -8) = r1"},
	{"*(u64 *)(r11 -56) = 7", "(7a) *(u64 *)(r11 -56) = 7"},
	{"lock *(u64 *)(r1+0) += r2", "(db) lock *(u64 *)(r1 +0) += r2"},
	{"lock *(u32 *)(r1+4) ^= w2", "(c3) lock *(u32 *)(r1 +4) ^= r2"},
	{"r0 = atomic_fetch_add((u64 *)(r1 + 0), r0)", "(db) r0 = atomic64_fetch_add((u64 *)(r1 +0), r0)"},
	{"w0 = atomic_fetch_or((u32 *)(r1 - 4), w0)", "(c3) r0 = atomic_fetch_or((u32 *)(r1 -4), r0)"},
	{"r0 = xchg_64(r1 + 8, r0)", "(db) r0 = atomic64_xchg((u64 *)(r1 +8), r0)"},
	{"w0 = cmpxchg32_32(r1 + 8, w0, w2)", "(c3) r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)"},
	{"r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)", "(db) r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)"},
	{"r0 = load_acquire((u8 *)(r1 +0))", "(d3) r0 = load_acquire((u8 *)(r1 +0))"},
	{"store_release((u64 *)(r10 -8), r1)", "(db) store_release((u64 *)(r10 -8), r1)"},
	{"r0 = *(u8 *)skb[12]", "(30) r0 = *(u8 *)skb[12]"},
	{"r0 = *(u32 *)skb[r7 + 4]", "(40) r0 = *(u32 *)skb[r7 + 4]"},
	{"goto +2", "(05) goto pc+2"},
	{"goto pc-1", "(05) goto pc-1"},
	{"gotol +5", "(06) gotol pc+5"},
	{"may_goto +3", "(e5) may_goto pc+3"},
	{"if r1 == 0x5 goto +3", "(15) if r1 == 0x5 goto pc+3"},
	{"if w1 s<= w2 goto -3", "(de) if w1 s<= w2 goto pc-3"},
	{"if r1 & 7 goto +0", "(45) if r1 & 0x7 goto pc+0"},
	{"if r1 > -1 goto +0", "(25) if r1 > 0xffffffff goto pc+0"},
	{"call 1", "(85) call bpf_map_lookup_elem#1"},
	{"call bpf_map_lookup_elem", "(85) call bpf_map_lookup_elem#1"},
	{"call pc+3", "(85) call pc+3"},
	{"exit", "(95) exit"},
	{"r1 = 0x123456789abcdef0 ll", "(18) r1 = 0x123456789abcdef0"},
}

func TestStatements(t *testing.T) {
	for _, s := range statements {
		insns, _, err := Parse(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.text, err)
			continue
		}
		log := string(isa.AppendText(nil, insns, 0, nil))
		if log != s.log {
			t.Errorf("%s: assembles to %s, want %s", s.text, log, s.log)
		}
		if err := isa.Check(insns); err != nil {
			t.Errorf("%s: %v", s.text, err)
		}
		back, _, err := Parse("7: " + log + " ; R1=scalar()")
		if err != nil {
			t.Errorf("%s: reading it back: %v", log, err)
		} else if diff := cmp.Diff(insns, back); diff != "" {
			t.Errorf("%s: read back differs: %s", log, diff)
		}
	}
}

func TestLabels(t *testing.T) {
	got, syms, err := Parse(`
	r0 = 0 ; r1 = 5 ll
1:	r0 += 1
	if r0 < 10 goto 1b
	call sub
	goto 1f
	call some_kfunc
1:	exit
sub:	r1 = table ll
	r1 = map[table][0]+4
	exit`)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for pc := 0; pc < len(got); pc += got[pc].Slots() {
		fmt.Fprintf(&log, "%d: %s\n", pc, isa.AppendText(nil, got, pc, nil))
	}
	want := `0: (b7) r0 = 0
1: (18) r1 = 0x5
3: (07) r0 += 1
4: (a5) if r0 < 0xa goto pc-2
5: (85) call pc+3
6: (05) goto pc+1
7: (85) call kernel-function#0
8: (95) exit
9: (18) r1 = 0x0
11: (18) r1 = 0x0
13: (95) exit
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Error(diff)
	}
	wantMaps, wantKfuncs := []Ref{{11, "table"}, {9, "table"}}, []Ref{{7, "some_kfunc"}}
	if diff := cmp.Diff([][]Ref{wantMaps, wantKfuncs}, [][]Ref{syms.Maps, syms.Kfuncs}); diff != "" {
		t.Error(diff)
	}
	if got[12].Imm != 4 {
		t.Errorf("offset into the map's value is %d, want 4", got[12].Imm)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"r0 = 0\nr1 ?= 5", "line 2: unexpected character '?': r1 ?= 5"},
		{"goto nowhere", "line 1: no label nowhere"},
		{"r1 = r16", "line 1: unknown operation 'r16': r1 = r16"},
		{"r1 = 0x123456789", "line 1: 4886718345 does not fit into 32 bits: r1 = 0x123456789"},
		{"r1 = 1 2", "line 1: unexpected '2': r1 = 1 2"},
		{"a:\na: exit", "line 2: label a defined twice: a: exit"},
		{"0: (b4) r1 = 1", "line 1: the opcode of this text is b7: 0: (b4) r1 = 1"},
		{"r1 = le16 r2", "line 1: le16 has one register: r1 = le16 r2"},
		{".wat", "line 1: unknown directive .wat: .wat"},
	} {
		_, _, err := Parse(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v, want %s", c.text, err, c.want)
		}
	}
}
