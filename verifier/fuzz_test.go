package verifier_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// fuzzTemplates are programs whose instructions the fuzzer overwrites: together they have maps of several kinds, static
// and global functions, kfuncs, references, packets, stack arguments and every class of instruction.
var fuzzTemplates = []string{
	`.type tc
.flags 8
.map a array 4 16 4
.map h hash 8 8 4
.map c array 4 8 1 rdonly_prog frozen data=0700000001000000
.map progs prog_array 4 4 2
.func int prog(struct __sk_buff *ctx) global
r6 = r1
r7 = *(u32 *)(r1 + 76)
r8 = *(u32 *)(r1 + 80)
r2 = r7
r2 += 14
if r2 > r8 goto out
r3 = *(u8 *)(r7 + 3)
*(u64 *)(r10 - 8) = r3
*(u32 *)(r10 - 16) = 1
r1 = map[a] ll
r2 = r10
r2 += -16
call 1
r9 = r0
r1 = map[h] ll
r2 = r10
r2 += -8
call 1
if r0 == 0 goto out
r1 = *(u64 *)(r0 + 0)
r1 &= 7
r9 += r1
lock *(u32 *)(r9 + 0) += r1
r2 = map[c][0] ll
r3 = *(u32 *)(r2 + 0)
r1 = r6
r2 = r3
call g
r1 = r6
call s
out:
r1 = r6
r2 = map[progs] ll
r3 = 0
call 12
r0 = 0
exit
.func int g(struct __sk_buff *ctx, int n) global
if r2 s> 5 goto l
r1 = r2
l: r0 = r2
exit
.func int s(struct __sk_buff *ctx)
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r2 = r10
r2 += -16
r3 = 12
r4 = 0
r5 = 0
call 84
if r0 == 0 goto m
r1 = r0
call 86
m: r0 = 0
exit
`,
	`.struct obj { int a; long b; }
.kfunc struct obj *get(int n) acquire ret_null
.kfunc void put(struct obj *o) release
.kfunc void *buf(void *mem, int mem__sz, int rdwr_buf_size)
.kfunc long many(long a, long b, long c, long d, long e, void *f, int f__sz)
.map m array 4 32 1
r6 = r1
r1 = 3
call get
if r0 == 0 goto none
r7 = *(u64 *)(r0 + 8)
r1 = r0
call put
none:
*(u64 *)(r10 - 8) = 0
r1 = r10
r1 += -8
r2 = 8
r3 = 16
call buf
*(u64 *)(r0 + 8) = 1
r1 = map[m][0]+8 ll
*(u64 *)(r11 - 8) = r1
*(u64 *)(r11 - 16) = 8
r1 = 0
r2 = 0
r3 = 0
r4 = 0
r5 = 0
call many
r1 = 0
r2 = 0
r3 = 0
r4 = 0
r5 = 0
r6 = r10
r6 += -8
*(u64 *)(r11 - 8) = r6
*(u64 *)(r11 - 16) = 5
call f
l: may_goto done
r0 += 1
goto l
done: exit
.func long f(long a, long b, long c, long d, long e, long *f, long g)
r6 = *(u64 *)(r11 + 8)
r7 = *(u64 *)(r11 + 16)
r8 = 1
r8 = atomic64_fetch_add((u64 *)(r6 + 0), r8)
r0 = load_acquire((u64 *)(r6 + 0))
r0 = (s8)r0
w0 s>>= 3
if w0 & 1 goto n
r0 = -r0
n: r0 s/= 3
exit
`,
	`.type xdp
r0 = 0
r2 = *(u32 *)(r1 + 0)
r3 = *(u32 *)(r1 + 4)
r5 = 0
l:
r4 = r2
r4 += 1
if r4 > r3 goto m
r5 += 1
if r5 > 8 goto m
r6 = *(u8 *)(r2 + 0)
r0 ^= r6
r2 += 1
goto l
m: call f
exit
f:
r6 = 5
call g
r0 += r6
exit
g:
r0 = 1
exit
`,
}

// fuzzProgram applies edits of nine bytes to a template: a position, then the eight bytes of an instruction, of which a
// mask byte says what is replaced. The program's tables stay as they are, so that what is tested is the verifier, not
// what makes its input.
func fuzzProgram(t testing.TB, which byte, edits []byte) *program.Program {
	t.Helper()
	p, err := asmtext.Program(fuzzTemplates[int(which)%len(fuzzTemplates)], asmtext.ProgramOptions{Lines: true})
	if err != nil {
		t.Fatal(err)
	}
	for ; len(edits) >= 10; edits = edits[10:] {
		in := &p.Insns[int(edits[0])%len(p.Insns)]
		mask := edits[1]
		if mask&1 != 0 {
			in.Op = edits[2]
		}
		if mask&2 != 0 {
			in.Dst = isa.Reg(edits[3] & 15)
		}
		if mask&4 != 0 {
			in.Src = isa.Reg(edits[3] >> 4)
		}
		if mask&8 != 0 {
			in.Off = int16(edits[4]) | int16(edits[5])<<8
		}
		if mask&16 != 0 {
			in.Imm = int32(edits[6]) | int32(edits[7])<<8 | int32(edits[8])<<16 | int32(edits[9])<<24
		}
	}
	if which&64 != 0 {
		p.Flags ^= 8
	}
	return p
}

// FuzzVerify: whatever the instructions, Verify returns a result with a fact for each slot or an *Error that names a code
// and a place; never a panic, which would show as CodeInternal; and it says the same without a log.
func FuzzVerify(f *testing.F) {
	for which := range fuzzTemplates {
		f.Add(byte(which), []byte{})
		f.Add(byte(which)|64, []byte{1, 1, 0x18, 0, 0, 0, 0, 0, 0, 0})
		f.Add(byte(which), []byte{5, 31, 0x85, 0x10, 0, 0, 1, 0, 0, 0, 9, 31, 0xdb, 0x1a, 0xf8, 0xff, 0xf1, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, which byte, edits []byte) {
		p := fuzzProgram(t, which, edits)
		opt := options(verifier.LogAll | verifier.LogStats)
		opt.InsnLimit, opt.LogLimit = 20000, 1<<16
		res, err := verifier.Verify(p, opt)
		checkContract(t, p, res, err)
		opt.LogLevel = 0
		_, quiet := verifier.Verify(p, opt)
		if a, b := lineOf(err), lineOf(quiet); a != b {
			t.Errorf("with a log: %s\nwithout: %s", a, b)
		}
		opt.CheckpointEvery = true
		res, err = verifier.Verify(p, opt)
		checkContract(t, p, res, err)
	})
}

func lineOf(err error) string {
	if err == nil {
		return "accepted"
	}
	return err.Error()
}

func checkContract(t *testing.T, p *program.Program, res *verifier.Result, err error) {
	t.Helper()
	if err == nil {
		if res == nil || len(res.Insns) != len(p.Insns) || len(res.Funcs) != len(p.Funcs) {
			t.Fatal("accepted without facts")
		}
		if !res.Insns[0].Seen {
			t.Error("accepted without walking the first instruction")
		}
		return
	}
	var ve *verifier.Error
	if !errors.As(err, &ve) {
		t.Fatalf("error of type %T", err)
	}
	if res != nil || ve.Message == "" || ve.Insn < -1 || ve.Insn >= len(p.Insns) {
		t.Errorf("bad rejection %+v", ve)
	}
	if ve.Code == verifier.CodeInternal && !knownInternal(ve.Message) {
		t.Errorf("internal error: %s\n%s", ve.Message, ve.Log)
	}
	if strings.Contains(ve.Error(), "\n") {
		t.Errorf("error of two lines: %q", ve.Error())
	}
}

// knownInternal are rejections that the kernel words as its own faults, although programs cause them.
func knownInternal(msg string) bool {
	return strings.Contains(msg, "more than one arg with ref_obj_id")
}
