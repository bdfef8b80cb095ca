package verifier_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// This file holds the rules whose cases the text of testdata cannot say: programs that no assembler makes, parameter
// tags, prototypes of helpers that do not exist, and options.

func source(t *testing.T, src string) *program.Program {
	t.Helper()
	return assemble(t, &textCase{file: "inline", src: src})
}

// rejected verifies p and compares the code and a piece of the message; an empty message means accepted.
func rejected(t *testing.T, p *program.Program, opt verifier.Options, code verifier.Code, msg string) {
	t.Helper()
	_, err := verifier.Verify(p, opt)
	if msg == "" {
		if err != nil {
			t.Errorf("rejected: %+v", err)
		}
		return
	}
	var ve *verifier.Error
	if !errors.As(err, &ve) {
		t.Errorf("accepted, want %q", msg)
		return
	}
	if ve.Code != code || !strings.Contains(ve.Message, msg) {
		t.Errorf("%s: %q, want %s: %q", ve.Code, ve.Message, code, msg)
	}
}

func TestProgramShape(t *testing.T) {
	const ok = "r0 = 0\nexit\n"
	opt := options(0)
	for name, c := range map[string]struct {
		change func(p *program.Program)
		code   verifier.Code
		msg    string
	}{
		"whole":           {func(*program.Program) {}, "", ""},
		"no instructions": {func(p *program.Program) { p.Insns, p.Funcs = nil, nil }, verifier.CodeBadInsn, "no instructions"},
		"too many": {func(p *program.Program) { p.Insns = make([]isa.Insn, isa.MaxInsns+1) }, verifier.CodeTooComplex,
			"program has 1000001 instructions"},
		"no functions":   {func(p *program.Program) { p.Funcs = nil }, verifier.CodeInternal, "does not cover"},
		"first function": {func(p *program.Program) { p.Funcs[0].Start = 1 }, verifier.CodeInternal, "does not cover"},
		"last function":  {func(p *program.Program) { p.Funcs[0].End = 1 }, verifier.CodeInternal, "does not cover"},
		"gap":            {func(p *program.Program) { p.Funcs = []program.Func{{End: 0}, {Start: 1, End: 2}} }, verifier.CodeInternal, "not in order"},
		"empty function": {func(p *program.Program) { p.Funcs = []program.Func{{End: 2}, {Start: 2, End: 2}} }, verifier.CodeInternal, "not in order"},
		"too many functions": {func(p *program.Program) {
			p.Funcs = append(make([]program.Func, isa.MaxSubprogs), program.Func{End: 2})
		}, verifier.CodeTooComplex, "too many subprograms"},
		"program type": {func(p *program.Program) { p.Type = ebpf.LircMode2 }, verifier.CodeUnsupported, "programs of type LircMode2"},
		"exception callback": {func(p *program.Program) {
			p.Funcs[0].Type = &btf.Func{Name: "prog", Type: &btf.FuncProto{Return: &btf.Int{Size: 4}}, Tags: []string{"note", "exception_callback:cb"}}
		}, verifier.CodeBTF, "exception callback 'cb' could not be found in BTF"},
		"attach type": {func(p *program.Program) { p.Type, p.AttachType = ebpf.CGroupSockopt, ebpf.AttachSkLookup }, verifier.CodeCall,
			"programs of type CGroupSockopt cannot have the expected attach type SkLookup"},
		"sleepable socket filter": {func(p *program.Program) { p.Flags = 1 << 4 }, verifier.CodeCall, "Only fentry/fexit/fmod_ret, lsm, iter"},
		"sleepable uprobe":        {func(p *program.Program) { p.Type, p.Flags = ebpf.Kprobe, 1<<4 }, "", ""},
		"syscall":                 {func(p *program.Program) { p.Type, p.Flags = ebpf.Syscall, 1<<4 }, "", ""},
		"syscall, not sleepable":  {func(p *program.Program) { p.Type = ebpf.Syscall }, verifier.CodeCall, "Syscall programs can only be sleepable"},
	} {
		t.Run(name, func(t *testing.T) {
			p := source(t, ok)
			c.change(p)
			rejected(t, p, opt, c.code, c.msg)
		})
	}
}

// TestStateBytes: a loop that leaves a checkpoint at every round.
func TestStateBytes(t *testing.T) {
	p := source(t, "r6 = 0\n*(u64 *)(r10 - 512) = r6\nl:\nr6 += 1\nif r6 < 1000 goto l\nr0 = 0\nexit\n")
	opt := options(0)
	rejected(t, p, opt, "", "")
	p.Flags |= 1 << 3 // BPF_F_TEST_STATE_FREQ
	rejected(t, p, opt, "", "")
	opt.StateBytes = 1 << 20
	rejected(t, p, opt, verifier.CodeTooComplex, "take more than 1048576 bytes")
}

// manyRefs is a program that holds n references at its end, some of which it holds on the paths that wait.
func manyRefs(t *testing.T, n int, branch string) *program.Program {
	return source(t, fmt.Sprintf(`.map rb ringbuf 0 0 4096
r7 = *(u32 *)(r1 + 0)
r6 = 0
l: r1 = map[rb] ll
r2 = 8
r3 = 0
call bpf_ringbuf_reserve
%s
next: r6 += 1
if r6 < %d goto l
r0 = 0
exit
`, branch, n))
}

// TestStateBytesOfReferences: the references of kept states and of those that wait count as well.
func TestStateBytesOfReferences(t *testing.T) {
	opt := options(0)
	rejected(t, manyRefs(t, 2000, ""), opt, verifier.CodeReference, "Unreleased reference")
	opt.StateBytes = 1 << 20
	rejected(t, manyRefs(t, 2000, ""), opt, verifier.CodeTooComplex, "take more than 1048576 bytes")
	opt.StateBytes = 8 << 20
	rejected(t, manyRefs(t, 2000, ""), opt, verifier.CodeReference, "Unreleased reference")
	rejected(t, manyRefs(t, 2000, "if r7 == r6 goto next"), opt, verifier.CodeTooComplex, "take more than 8388608 bytes")
}

// TestManyLeaks: the log names every reference that is held, the message the first ones.
func TestManyLeaks(t *testing.T) {
	_, err := verifier.Verify(manyRefs(t, 100, ""), options(verifier.LogBranch))
	var ve *verifier.Error
	if !errors.As(err, &ve) {
		t.Fatalf("accepted, or %v", err)
	}
	if n := strings.Count(ve.Message, "Unreleased"); n != 16 {
		t.Errorf("the message names %d references, want 16", n)
	}
	if n := strings.Count(ve.Log, "Unreleased"); n != 100 {
		t.Errorf("the log names %d references, want 100", n)
	}
}

// TestOwnersInLayers: objects of eight layers, of which each can own eleven of the next in as many places: a hundred million chains,
// at each call that makes one.
func TestOwnersInLayers(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("whether a pointer is to a structure of the kernel is not known: the running kernel has no BTF")
	}
	source := func(layers int) string {
		src := ".struct owned0 { long key; }\n"
		for i := range layers {
			src += fmt.Sprintf(".struct owned%d {", i+1)
			for j := range 11 {
				src += fmt.Sprintf(" struct owned%d __kptr *p%d;", i, j)
			}
			src += " }\n"
		}
		return src + fmt.Sprintf(`.typeid top owned%d
.type tc
.kfunc void *bpf_obj_new_impl(void) unresolved
.kfunc void *bpf_obj_drop_impl(void) unresolved
.func int prog(void *ctx) global
r6 = 0
l: r1 = top
r2 = 0
call bpf_obj_new_impl
if r0 == 0 goto next
r1 = r0
r2 = 0
call bpf_obj_drop_impl
next: r6 += 1
if r6 < 100 goto l
r0 = 0
exit
`, layers)
	}
	start := time.Now()
	rejected(t, assemble(t, &textCase{file: "inline", src: source(8)}), options(0), "", "")
	rejected(t, assemble(t, &textCase{file: "inline", src: source(9)}), options(0), verifier.CodeBTF, "a list or tree whose objects are not known")
	if d := time.Since(start); d > time.Minute {
		t.Errorf("it takes %v", d)
	}
}

func TestTooManyMaps(t *testing.T) {
	for _, n := range []int{64, 65} {
		src := ""
		for i := range n {
			src += fmt.Sprintf(".map m%d array 4 8 1\nr1 = map[m%d] ll\nr1 = map[m%d] ll\n", i, i, i)
		}
		msg := ""
		if n > 64 {
			msg = "The total number of maps per program has reached the limit of 64"
		}
		rejected(t, source(t, src+"r0 = 0\nexit\n"), options(0), verifier.CodeTooComplex, msg)
	}
}

// TestParameterTags: bpf_helpers.h's __arg_ctx and __arg_nonnull, and those that are not known.
func TestParameterTags(t *testing.T) {
	const src = `.struct pair { int a; int b; }
.func int prog(struct __sk_buff *ctx) global
%s
call f
exit
.func int f(%s) global
%s
exit
`
	const stack = "*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -8"
	for name, c := range map[string]struct {
		args, params, body string
		tags               []string
		code               verifier.Code
		msg                string
	}{
		"ctx":                    {"r6 = r1", "void *p", "r0 = *(u32 *)(r1 + 0)", []string{"arg:ctx"}, "", ""},
		"ctx, stack given":       {stack, "void *p", "r0 = 0", []string{"arg:ctx"}, verifier.CodeType, "arg#0 expects pointer to ctx"},
		"ctx, number":            {"r1 = 0", "int n", "r0 = 0", []string{"arg:ctx"}, verifier.CodeBTF, "arg#0 has pointer tag, but is not a pointer type"},
		"ctx of another type":    {"r6 = r1", "struct pair *p", "r0 = 0", []string{"arg:ctx"}, verifier.CodeBTF, "arg#0 should be `struct __sk_buff *`"},
		"ctx and nonnull":        {"r6 = r1", "void *p", "r0 = 0", []string{"arg:ctx", "arg:nonnull"}, verifier.CodeBTF, "arg#0 has invalid combination of tags"},
		"ctx's type and nonnull": {"r6 = r1", "struct __sk_buff *p", "r0 = 0", []string{"arg:nonnull"}, verifier.CodeBTF, "arg#0 has invalid combination of tags"},
		"ctx, pointer to number": {"r6 = r1", "int *p", "r0 = 0", []string{"arg:ctx"}, verifier.CodeBTF, "arg#0 should be `struct __sk_buff *`"},
		"nonnull":                {stack, "struct pair *p", "r0 = *(u32 *)(r1 + 4)", []string{"arg:nonnull"}, "", ""},
		"nonnull, number":        {"r1 = 0", "int n", "r0 = 0", []string{"arg:nonnull"}, verifier.CodeBTF, "arg#0 has pointer tag, but is not a pointer type"},
		"nonnull, NULL given":    {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:nonnull"}, verifier.CodeNull, "arg#0 is expected to be non-NULL"},
		"without, NULL given":    {"r1 = 0", "struct pair *p", "r0 = 0", nil, "", ""},
		"other annotations":      {stack, "struct pair *p", "r0 = 0", []string{"note", "arg"}, "", ""},
		"trusted":                {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:trusted"}, verifier.CodeUnsupported, "the types of the kernel are not known"},
		"nullable":               {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:nullable"}, verifier.CodeBTF, "arg#0 has invalid combination of tags"},
		"arena":                  {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:arena"}, "", ""},
		"untrusted":              {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:untrusted"}, verifier.CodeUnsupported, "the types of the kernel are not known"},
		"untrusted, any address": {"r1 = 5", "int *p", "r0 = *(u32 *)(r1 + 400)", []string{"arg:untrusted"}, "", ""},
		"untrusted and nonnull":  {"r1 = 5", "int *p", "r0 = 0", []string{"arg:untrusted", "arg:nonnull"}, verifier.CodeBTF, "arg#0 untrusted cannot be combined with any other tags"},
		"trusted and nonnull":    {"r1 = 5", "int *p", "r0 = 0", []string{"arg:trusted", "arg:nonnull"}, verifier.CodeBTF, "arg#0 has invalid combination of tags"},
		"unknown":                {"r1 = 0", "struct pair *p", "r0 = 0", []string{"arg:strange"}, verifier.CodeBTF, "arg#0 has unsupported set of tags"},
		"nonnull does not check": {"r1 = 5", "struct pair *p", "r0 = 0", []string{"arg:nonnull"}, verifier.CodeType, "R1 type=scalar expected=fp"},
	} {
		t.Run(name, func(t *testing.T) {
			p := source(t, fmt.Sprintf(src, c.args, c.params, c.body))
			p.Funcs[1].Type.ParamTags = [][]string{c.tags}
			opt := options(0)
			opt.Kernel = nil
			rejected(t, p, opt, c.code, c.msg)
		})
	}
}

// TestPrototypes: argument and result kinds that none of skep's helpers has (yet), and contradictions in a prototype.
func TestPrototypes(t *testing.T) {
	with := func(p verifier.HelperProto) verifier.Options {
		p.ID, p.Name = 7, "test"
		return verifier.Options{Helpers: func(id int32) *verifier.HelperProto {
			if id == 7 {
				return &p
			}
			return helpers.Proto(id)
		}}
	}
	one := func(kinds ...verifier.ArgKind) (a [5]verifier.HelperArg) {
		for i, k := range kinds {
			a[i].Kind = k
		}
		return a
	}
	const lookup = `.type tc
r6 = r1
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r2 = r10
r2 += -16
r3 = 12
r4 = 0
r5 = 0
call 84
`
	const (
		m      = ".map m array 4 8 1\nr1 = map[m] ll\nr2 = r10\nr2 += -8\n"
		nullOK = "if r0 == 0 goto l\n"
		end    = "l: r0 = 0\nexit\n"
	)
	for name, c := range map[string]struct {
		src   string
		proto verifier.HelperProto
		code  verifier.Code
		msg   string
	}{
		"sleeps":                       {"call 7\n" + end, verifier.HelperProto{MightSleep: true}, verifier.CodeCall, "helper call might sleep in a non-sleepable prog"},
		"sleeps where that is allowed": {".type syscall\n.flags 16\ncall 7\n" + end, verifier.HelperProto{MightSleep: true}, "", ""},
		"two references": {lookup + nullOK + "r1 = r0\nr2 = r0\ncall 7\n" + end,
			verifier.HelperProto{Args: one(verifier.ArgSockCommon, verifier.ArgSockCommon)}, verifier.CodeInternal, "more than one arg with ref_obj_id R2"},
		"socket": {lookup + nullOK + "r7 = r0\nr1 = r0\ncall 7\nr1 = r7\ncall 86\n" + end,
			verifier.HelperProto{Args: one(verifier.ArgSocket)}, "", ""},
		"socket, common one given": {".type tc\nr1 = *(u64 *)(r1 + 168)\nif r1 == 0 goto l\ncall 7\n" + end,
			verifier.HelperProto{Args: one(verifier.ArgSocket)}, verifier.CodeType, "R1 type=sock_common expected=sock"},
		"unknown kind":      {"call 7\n" + end, verifier.HelperProto{Args: one(250)}, verifier.CodeInternal, "unsupported arg type 250"},
		"key without a map": {"r1 = r10\nr1 += -8\ncall 7\n" + end, verifier.HelperProto{Args: one(verifier.ArgMapKey)}, verifier.CodeType, "invalid map_ptr to access map->key"},
		"value without a map": {"r1 = r10\nr1 += -8\ncall 7\n" + end, verifier.HelperProto{Args: one(verifier.ArgMapValue)}, verifier.CodeType,
			"invalid map_ptr to access map->type"},
		"filled value": {m + "*(u64 *)(r10 - 16) = 0\ncall 7\nr1 = *(u64 *)(r10 - 8)\n" + end,
			verifier.HelperProto{Args: one(verifier.ArgConstMapPtr, verifier.ArgUninitMapValue)}, "", ""},
		"optional value":      {".map m array 4 8 1\nr1 = map[m] ll\nr2 = 0\ncall 7\n" + end, verifier.HelperProto{Args: [5]verifier.HelperArg{{Kind: verifier.ArgConstMapPtr}, {Kind: verifier.ArgMapValue, OrNull: true}}}, "", ""},
		"optional fixed":      {"r1 = 0\ncall 7\n" + end, verifier.HelperProto{Args: [5]verifier.HelperArg{{Kind: verifier.ArgFixedMem, Size: 8, OrNull: true}}}, "", ""},
		"size of a result":    {"r1 = 16\ncall 7\nif r0 == 0 goto l\n*(u64 *)(r0 + 8) = 0\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, Args: one(verifier.ArgConstAllocSize)}, "", ""},
		"result exceeded":     {"r1 = 16\ncall 7\nif r0 == 0 goto l\n*(u64 *)(r0 + 9) = 0\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, Args: one(verifier.ArgConstAllocSize)}, verifier.CodeBounds, "invalid access to memory, mem_size=16 off=9 size=8"},
		"result unchecked":    {"r1 = 16\ncall 7\n*(u64 *)(r0 + 8) = 0\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, Args: one(verifier.ArgConstAllocSize)}, verifier.CodeNull, "R0 invalid mem access 'mem_or_null'"},
		"size not known":      {"r1 = *(u32 *)(r1 + 0)\ncall 7\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, Args: one(verifier.ArgConstAllocSize)}, verifier.CodeType, "R1 is not a known constant'"},
		"size of another run": {".flags 8\nr6 = *(u32 *)(r1 + 0)\nr1 = 8\nif r6 == 0 goto j\nr1 = 16\nj: call 7\nif r0 == 0 goto l\n*(u64 *)(r0 + 8) = 0\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, Args: one(verifier.ArgConstAllocSize)}, verifier.CodeBounds, "mem_size=8 off=8"},
		"fixed result":        {"call 7\nif r0 == 0 goto l\n*(u64 *)(r0 + 0) = 0\n" + end, verifier.HelperProto{Ret: verifier.RetMemOrNull, RetSize: 8}, "", ""},
		"TCP socket":          {"call 7\nif r0 == 0 goto l\nr0 = *(u32 *)(r0 + 0)\n" + end, verifier.HelperProto{Ret: verifier.RetTCPSockOrNull}, "", ""},
		"TCP socket's field":  {"call 7\nif r0 == 0 goto l\nr0 = *(u16 *)(r0 + 0)\n" + end, verifier.HelperProto{Ret: verifier.RetTCPSockOrNull}, verifier.CodePermission, "R0 invalid tcp_sock access off=0 size=2"},
		"value without map":   {"call 7\n" + end, verifier.HelperProto{Ret: verifier.RetMapValueOrNull}, verifier.CodeInternal, "misconfigured"},
		"unknown result":      {"call 7\n" + end, verifier.HelperProto{Ret: 99}, verifier.CodeInternal, "unknown return type 99"},
	} {
		t.Run(name, func(t *testing.T) {
			rejected(t, source(t, c.src), with(c.proto), c.code, c.msg)
		})
	}
}

// TestKfuncTypes: prototypes that the text has no words for.
func TestKfuncTypes(t *testing.T) {
	const src = ".kfunc int k(int *p)\nr1 = 0\ncall k\nexit\n"
	p := source(t, src)
	p.Kfuncs[0].Type = nil
	rejected(t, p, options(0), verifier.CodeBTF, "has no prototype in BTF")
	p = source(t, src)
	proto := p.Kfuncs[0].Type.Type.(*btf.FuncProto)
	proto.Params[0].Type = &btf.Pointer{Target: &btf.FuncProto{Return: proto.Return}}
	rejected(t, p, options(0), verifier.CodeUnsupported, "callback arguments")
}

func TestOldDialect(t *testing.T) {
	for src, msg := range map[string]string{
		"r1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\ncall f\nexit\n.func long f(long a, long b, long c, long d, long e, long f)\nr0 = 0\nexit\n":                                         "stack arg#6 not properly initialized",
		"r1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n*(u64 *)(r11 - 8) = 1\ncall f\nexit\n.func long f(long a, long b, long c, long d, long e, long f)\nr0 = *(u64 *)(r11 + 16)\nexit\n": "invalid read from stack arg off -16 depth 8",
	} {
		p := source(t, src)
		p.OldDialect = true
		rejected(t, p, options(0), verifier.CodeStackArgs, msg)
	}
}

func TestOptions(t *testing.T) {
	loop := source(t, "r0 = 0\nl: r0 += 1\nif r0 < 1000 goto l\nexit\n")
	opt := options(0)
	opt.InsnLimit = 2003
	rejected(t, loop, opt, "", "")
	opt.InsnLimit = 2001
	rejected(t, loop, opt, verifier.CodeTooComplex, "BPF program is too large. Processed 2002 insn")

	cpu := source(t, ".type cgroup_skb\ncall 8\nexit\n")
	opt = options(0)
	rejected(t, cpu, opt, verifier.CodeReturn, "unknown scalar value")
	opt.CPUs = 2
	rejected(t, cpu, opt, "", "")
	opt.CPUs = 3
	rejected(t, cpu, opt, verifier.CodeReturn, "smin=0 smax=2")

	regs := source(t, ".type kprobe\nr0 = *(u64 *)(r1 + 264)\nexit\n")
	opt = options(0)
	rejected(t, regs, opt, verifier.CodePermission, "invalid bpf_context access off=264 size=8")
	opt.Arch = "arm64"
	rejected(t, regs, opt, "", "")

	opt = options(verifier.LogAll)
	opt.LogLimit = 1000
	res, err := verifier.Verify(loop, opt)
	if err != nil || len(res.Log) > 1000 || !strings.Contains(res.Log, "processed 2002 insns") {
		t.Errorf("limited log: %v, %d bytes:\n%s", err, len(res.Log), res.Log)
	}

	global := source(t, `r1 = 0
r2 = 0
r3 = 0
r4 = 0
r5 = 0
*(u64 *)(r11 - 8) = 6
call f
exit
.func long f(long a, long b, long c, long d, long e, long f) global
r0 = *(u64 *)(r11 + 8)
exit
`)
	rejected(t, global, options(0), verifier.CodeStackArgs, "stack args not supported")
	opt = options(0)
	opt.GlobalStackArgs = true
	rejected(t, global, opt, "", "")
}

// TestVisit: with ExactStates every state is shown, and nothing is taken for equal that is not.
func TestVisit(t *testing.T) {
	p := source(t, `.flags 8
r6 = *(u32 *)(r1 + 0)
r7 = 5
if r6 == 0 goto j
r7 = 6
j: r8 = r10
call f
r0 = r7
exit
f: r0 = 0
exit
`)
	seen := map[uint64]bool{}
	deepest := 0
	opt := options(0)
	opt.ExactStates = true
	opt.Visit = func(pc int, s *verifier.StateView) {
		deepest = max(deepest, s.Depth)
		if pc == 5 {
			r7, r8 := s.Regs[7], s.Regs[8]
			if !r7.Known || !r7.Scalar || !r8.Known || r8.Scalar || r8.Kind != verifier.PtrStack {
				t.Errorf("registers at the call: %+v, %+v", r7, r8)
			}
			seen[r7.Value.Umin] = true
		}
	}
	if _, err := verifier.Verify(p, opt); err != nil {
		t.Fatal(err)
	}
	if !seen[5] || !seen[6] || deepest != 1 {
		t.Errorf("saw %v, depth %d", seen, deepest)
	}
}

// TestFacts: what later stages build on.
func TestFacts(t *testing.T) {
	p := source(t, `.type tc
.map a array 4 8 4
.map b array 4 8 4
.map progs prog_array 4 4 4
.func int prog(struct __sk_buff *ctx) global
r6 = r1
r7 = *(u32 *)(r1 + 0)
r9 = *(u32 *)(r6 + 76)
*(u32 *)(r10 - 8) = 3
r1 = map[a] ll
r2 = r10
r2 += -8
call 1
r8 = *(u64 *)(r0 + 0)
r1 = map[a] ll
if r7 == 0 goto j
r1 = map[b] ll
j: r2 = r10
r2 += -8
call 1
r0 = 0
if r0 == 0 goto k
r0 = *(u64 *)(r10 - 16)
k: if r7 == 1 goto m
m: r1 = r6
r2 = map[progs] ll
r3 = 2
call 12
r1 = r6
r2 = map[progs] ll
r3 = r7
call 12
r1 = 0
call f
exit
.func int f(void *p)
*(u64 *)(r10 - 24) = 0
r0 = 1
if r0 == 0 goto n
r0 = 0
n: exit
`)
	res, err := verifier.Verify(p, options(0))
	if err != nil {
		t.Fatalf("%+v", err)
	}
	at := func(line int) (verifier.InsnFact, int) {
		for pc := range p.Insns {
			if l := p.LineAt(pc); l != nil && int(l.Number) == line {
				return res.Insns[pc], pc
			}
		}
		t.Fatalf("no instruction at line %d", line)
		return verifier.InsnFact{}, 0
	}
	want := func(line int, what string, ok func(f verifier.InsnFact) bool) {
		t.Helper()
		if f, pc := at(line); !ok(f) {
			t.Errorf("line %d, insn %d: want %s, have %+v", line, pc, what, f)
		}
	}
	want(7, "context", func(f verifier.InsnFact) bool { return f.Seen && f.Ptr == verifier.PtrCtx })
	want(9, "stack", func(f verifier.InsnFact) bool { return f.Ptr == verifier.PtrStack })
	want(13, "constant key of map a", func(f verifier.InsnFact) bool { return f.Map == 0 && f.HasConstKey && f.ConstKey == 3 })
	want(14, "map value", func(f verifier.InsnFact) bool { return f.Ptr == verifier.PtrMapValue })
	want(20, "no single map", func(f verifier.InsnFact) bool { return f.Map == -1 && f.HasConstKey })
	want(22, "always", func(f verifier.InsnFact) bool { return f.Branch == verifier.BranchAlways })
	want(23, "not seen", func(f verifier.InsnFact) bool { return !f.Seen })
	want(24, "open", func(f verifier.InsnFact) bool { return f.Branch == verifier.BranchUnknown })
	want(28, "tail call 2", func(f verifier.InsnFact) bool { return f.TailCallIndex == 2 })
	want(32, "tail call of any", func(f verifier.InsnFact) bool { return f.TailCallIndex == -1 && f.Map == 2 })
	want(39, "never", func(f verifier.InsnFact) bool { return f.Branch == verifier.BranchNever })
	f0, f1 := res.Funcs[0], res.Funcs[1]
	if f0.StackDepth != 8 || f1.StackDepth != 24 || len(f0.Calls) != 1 || f0.Calls[0] != 1 || !f0.HasTailCall || f1.HasTailCall ||
		!f0.TailCallReachable || f1.TailCallReachable || res.MaxCtx != 80 {
		t.Errorf("functions %+v %+v, context %d", f0, f1, res.MaxCtx)
	}
}

// TestTargets: what the kernel says where a machine cannot pass stack arguments, and of programs that replace others.
func TestTargets(t *testing.T) {
	args := "r1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n*(u64 *)(r11 - 8) = 6\n"
	fn := source(t, args+"call f\nexit\n.func long f(long a, long b, long c, long d, long e, long f)\nr0 = 0\nexit\n")
	kfunc := source(t, ".kfunc long k(long a, long b, long c, long d, long e, long f)\n"+args+"call k\nexit\n")
	five := source(t, ".kfunc long k(long a, long b, long c, long d, long e)\n"+strings.Replace(args, "*(u64 *)(r11 - 8) = 6\n", "", 1)+"call k\nexit\n")
	for _, c := range []struct {
		jit       verifier.JITSupport
		fn, kfunc string
	}{
		{verifier.JITStackArgs, "", ""},
		{verifier.JITNoStackArgs, "JIT does not support function f() with 6 args", "JIT does not support kfunc k() with 6 args"},
		{verifier.JITNone, "stack args are not supported in non-JITed programs", "stack args are not supported in non-JITed programs"},
	} {
		opt := options(0)
		opt.JIT = c.jit
		rejected(t, fn, opt, verifier.CodeStackArgs, c.fn)
		rejected(t, kfunc, opt, verifier.CodeStackArgs, c.kfunc)
		rejected(t, five, opt, "", "")
	}
	ext := source(t, ".type freplace\n.func long prog(long a, long b, long c, long d, long e, long f) global\nr0 = 0\nexit\n")
	rejected(t, ext, options(0), verifier.CodeStackArgs, "freplace programs with >5 args not supported yet")
}
