package difftest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

var btfPrograms = flag.Int("btf-programs", 4000, "random programs that follow pointers through structures of the kernel")

// This file compares what programs do with structures of the kernel: the types are those of the running kernel, and every one of its
// tracepoints, iterators and methods is tried.

// btfKind is a program type whose context comes by BTF, with what it attaches to.
type btfKind struct {
	typ    ebpf.ProgramType
	attach ebpf.AttachType
	to     string
	flags  uint32
}

func (k btfKind) String() string { return fmt.Sprintf("%v/%v %s", k.typ, k.attach, k.to) }

// program makes a program of text.
func (k btfKind) program(t testing.TB, src string) *program.Program {
	t.Helper()
	p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog"})
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	p.Type, p.AttachType, p.AttachTo, p.Flags = k.typ, k.attach, k.to, p.Flags|k.flags
	return p
}

// btfNames are the names of the kernel's types that have a prefix, without it.
func btfNames[T btf.Type](spec *btf.Spec, prefix string) []string {
	var names []string
	for t, err := range spec.All() {
		if err != nil {
			break
		}
		if name, ok := strings.CutPrefix(t.TypeName(), prefix); ok {
			if _, is := t.(T); is {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// btfKinds are all of them that the running kernel judges.
func btfKinds(spec *btf.Spec) []btfKind {
	var kinds []btfKind
	for _, n := range btfNames[*btf.Typedef](spec, "btf_trace_") {
		kinds = append(kinds, btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, to: n})
	}
	for _, n := range btfNames[*btf.Struct](spec, "bpf_iter__") {
		kinds = append(kinds, btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: n},
			btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: n, flags: 1 << 4})
	}
	for _, s := range []string{"tcp_congestion_ops", "bpf_dummy_ops"} {
		var ops *btf.Struct
		if spec.TypeByName(s, &ops) != nil {
			continue
		}
		for _, m := range ops.Members {
			k := btfKind{typ: ebpf.StructOps, attach: ebpf.AttachStructOps, to: s + ":" + m.Name}
			kinds = append(kinds, k)
			k.flags = 1 << 4
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// btfReport counts comparisons of programs by BTF.
type btfReport struct {
	programs, accepted, differ, none atomic.Int64
	known                            func(Verdict) bool // differences on purpose
}

// compare has both verifiers judge p: verdict, words, and the whole log.
func (r *btfReport) compare(t *testing.T, what string, p *program.Program) {
	v, err := judge(p, 2, 0)
	if err != nil {
		r.none.Add(1)
		return
	}
	r.programs.Add(1)
	if v.Kernel {
		r.accepted.Add(1)
	}
	d := ""
	switch {
	case v.Fault, r.known != nil && r.known(v):
		return
	case v.Ours != v.Kernel:
		d = fmt.Sprintf("we %t (%s), the kernel %t (%s)", v.Ours, v.OurReason, v.Kernel, v.KernelReason)
	case !v.Ours && !strings.Contains(v.OurLog, v.KernelReason):
		d = fmt.Sprintf("we say %q, the kernel %q", v.OurReason, v.KernelReason)
	default:
		d = firstDifference(noMarks(v.OurLog), noMarks(v.KernelLog))
	}
	if d == "" {
		return
	}
	if r.differ.Add(1) <= 30 {
		t.Errorf("%s: %s\n%s", what, d, asmtext.Text(p))
	}
}

// noMarks drops the lines about precision: NULL for a helper that takes NULL is precise here (docs/differences.md).
func noMarks(log string) string {
	lines := strings.SplitAfter(log, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "mark_precise:") }), "")
}

// each calls f for every index on two goroutines.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 2 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}

func needBTF(t *testing.T) *btf.Spec {
	t.Helper()
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of this test: ", err)
	}
	spec := program.HostTypes()
	if spec == nil {
		t.Skip("the running kernel has no BTF")
	}
	return spec
}

// TestBTFContexts reads every argument of every tracepoint, iterator and method, and what is not there, and writes.
func TestBTFContexts(t *testing.T) {
	kinds := btfKinds(needBTF(t))
	var r btfReport
	each(len(kinds), func(i int) {
		k := kinds[i]
		for off := 0; off <= 8*isa.MaxFuncArgs; off += 8 {
			r.compare(t, k.String(), k.program(t, fmt.Sprintf("r0 = *(u64 *)(r1 + %d)\nr0 = 0\nexit\n", off)))
		}
		for _, src := range []string{
			"r2 = *(u32 *)(r1 + 0)", "r2 = *(u32 *)(r1 + 4)", "r2 = *(u16 *)(r1 + 8)", "r2 = *(u8 *)(r1 + 16)", "r2 = *(u64 *)(r1 - 8)",
			"*(u64 *)(r1 + 0) = 0", "r2 = *(u64 *)(r1 + 3)", "r2 = *(s32 *)(r1 + 8)",
		} {
			r.compare(t, k.String(), k.program(t, src+"\nr0 = 0\nexit\n"))
		}
		for _, src := range []string{"r0 = 1", "r0 = 2", "r0 = -1", "r0 = r1", "r2 = 0", "call 7"} {
			r.compare(t, k.String(), k.program(t, src+"\nexit\n"))
		}
	})
	t.Logf("%d programs of %d kinds, %d accepted, %d without a verdict, %d differ", r.programs.Load(), len(kinds), r.accepted.Load(),
		r.none.Load(), r.differ.Load())
	if r.accepted.Load() == 0 {
		t.Error("nothing was accepted")
	}
}

// walkOffsets are offsets in a structure that are worth a look: where members start, inside of them, and behind it.
func walkOffsets(r *rand.Rand, t btf.Type) int {
	var members []btf.Member
	size := 0
	switch x := t.(type) {
	case *btf.Struct:
		members, size = x.Members, int(x.Size)
	case *btf.Union:
		members, size = x.Members, int(x.Size)
	}
	if len(members) == 0 || r.IntN(8) == 0 {
		return r.IntN(size + 24)
	}
	off := int(members[r.IntN(len(members))].Offset / 8)
	if r.IntN(4) == 0 {
		off += r.IntN(16)
	}
	return off
}

// pointerAt returns what a pointer at an offset of a structure points to, nil if there is none.
func pointerAt(t btf.Type, off int) btf.Type {
	s, ok := t.(*btf.Struct)
	if !ok {
		return nil
	}
	for _, m := range s.Members {
		if int(m.Offset/8) != off {
			continue
		}
		if p, ok := btf.UnderlyingType(m.Type).(*btf.Pointer); ok {
			return btf.UnderlyingType(p.Target)
		}
	}
	return nil
}

// TestBTFWalks follows pointers through the kernel's structures at random: members, holes, ends, unions, arrays, pointers that may be
// NULL or are not trusted, in programs that may sleep and such that may not.
func TestBTFWalks(t *testing.T) {
	spec := needBTF(t)
	starts := []struct {
		k    btfKind
		off  int
		name string
	}{
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, to: "sched_switch"}, 8, "task_struct"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, to: "netif_receive_skb"}, 0, "sk_buff"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, to: "cgroup_mkdir"}, 0, "cgroup"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, to: "block_rq_insert"}, 0, "request"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "task"}, 0, "bpf_iter_meta"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "task", flags: 1 << 4}, 8, "task_struct"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "task_file"}, 24, "file"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "bpf_map", flags: 1 << 4}, 8, "bpf_map"},
		{btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "tcp"}, 8, "sock_common"},
		{btfKind{typ: ebpf.StructOps, attach: ebpf.AttachStructOps, to: "tcp_congestion_ops:init"}, 0, "tcp_sock"},
		{btfKind{typ: ebpf.Netfilter, attach: ebpf.AttachNetfilter}, 0, "nf_hook_state"},
		{btfKind{typ: ebpf.Netfilter, attach: ebpf.AttachNetfilter}, 8, "sk_buff"},
	}
	var rep btfReport
	each(*btfPrograms, func(i int) {
		r := rand.New(rand.NewPCG(uint64(i), 0xb7f))
		s := starts[i%len(starts)]
		var st *btf.Struct
		if spec.TypeByName(s.name, &st) != nil {
			return
		}
		src := walkText(r, s.off, st)
		rep.compare(t, fmt.Sprintf("program %d, %v", i, s.k), s.k.program(t, src))
	})
	t.Logf("%d programs, %d accepted, %d without a verdict, %d differ", rep.programs.Load(), rep.accepted.Load(), rep.none.Load(), rep.differ.Load())
	if rep.accepted.Load() == 0 {
		t.Error("nothing was accepted")
	}
}

// walkText is a program that starts at a pointer in its context.
func walkText(r *rand.Rand, off int, start btf.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*(u64 *)(r10 - 8) = 0\nr6 = *(u64 *)(r1 + %d)\n", off)
	labels := 0
	check := func(reg string) {
		labels++
		fmt.Fprintf(&b, "if %s != 0 goto l%d\nr0 = 0\nexit\nl%d: ", reg, labels, labels)
	}
	check("r6")
	at := start
	for range 1 + r.IntN(5) {
		o := walkOffsets(r, at)
		size := []int{8, 8, 8, 4, 2, 1}[r.IntN(6)]
		if next := pointerAt(at, o); next != nil && r.IntN(5) != 0 {
			fmt.Fprintf(&b, "r6 = *(u64 *)(r6 + %d)\n", o)
			if r.IntN(3) != 0 {
				check("r6")
			}
			at = next
			continue
		}
		switch r.IntN(20) {
		case 0:
			fmt.Fprintf(&b, "*(u%d *)(r6 + %d) = 1\n", 8*size, o)
		case 1:
			fmt.Fprintf(&b, "r6 += %d\nr7 = *(u%d *)(r6 + 0)\nr6 += %d\n", o, 8*size, -o)
		case 2:
			fmt.Fprintf(&b, "r1 = r6\nr2 = 0\ncall %d\n", []int{175, 157, 137, 46}[r.IntN(4)])
		case 3:
			fmt.Fprintf(&b, "r1 = r10\nr1 += -8\nr2 = 8\nr3 = r6\ncall 113\n")
		case 4:
			fmt.Fprintf(&b, "r7 = %d\nr7 += r6\nr8 = *(u%d *)(r7 + 0)\n", o, 8*size)
		case 5:
			fmt.Fprintf(&b, "call 7\nr0 &= 8\nr6 += r0\nr8 = *(u%d *)(r6 + %d)\n", 8*size, o)
		case 6: // memory that a helper reads, or reads and writes
			fmt.Fprintf(&b, "r1 = r6\nr2 = %d\nr3 = 0\nr4 = 0\nr5 = 0\ncall %d\n", 8*size, []int{6, 149, 177}[r.IntN(3)])
		case 7:
			fmt.Fprintf(&b, "r7 = r6\nr7 -= r6\n")
		case 8:
			fmt.Fprintf(&b, "*(u64 *)(r10 - 16) = r6\nr7 = *(u64 *)(r10 - 16)\nr7 = *(u%d *)(r7 + %d)\n", 8*size, o)
		case 9: // one instruction, two kinds of pointers
			labels += 2
			fmt.Fprintf(&b, "r8 = r6\ncall 7\nif r0 > 5 goto l%d\nr8 = r10\nr8 += -8\nl%d: r7 = *(u64 *)(r8 + 0)\n", labels, labels)
		default:
			fmt.Fprintf(&b, "r7 = *(u%d *)(r6 + %d)\n", 8*size, o)
		}
	}
	b.WriteString("r0 = 0\nexit\n")
	return b.String()
}

// TestBTFWrites writes to every byte of what methods and packet programs may write to.
func TestBTFWrites(t *testing.T) {
	spec := needBTF(t)
	var r btfReport
	for _, c := range []struct {
		to, name string
		off      int
	}{
		{"tcp_congestion_ops:init", "tcp_sock", 0}, {"bpf_dummy_ops:test_2", "bpf_dummy_ops_state", 0},
		{"tcp_congestion_ops:pkts_acked", "ack_sample", 8},
	} {
		var s *btf.Struct
		if err := spec.TypeByName(c.name, &s); err != nil {
			t.Logf("no struct %s", c.name)
			continue
		}
		k := btfKind{typ: ebpf.StructOps, attach: ebpf.AttachStructOps, to: c.to}
		each(int(s.Size)+9, func(off int) {
			for _, size := range []int{1, 2, 4, 8} {
				r.compare(t, k.String(), k.program(t, fmt.Sprintf("r6 = *(u64 *)(r1 + %d)\n*(u%d *)(r6 + %d) = 1\nr0 = 0\nexit\n", c.off, 8*size, off)))
			}
		})
	}
	t.Logf("%d programs, %d accepted, %d without a verdict, %d differ", r.programs.Load(), r.accepted.Load(), r.none.Load(), r.differ.Load())
	if r.accepted.Load() == 0 {
		t.Error("nothing was accepted")
	}
}

// TestBTFParameters passes every kind of value for parameters of global functions, with every pair of tags.
func TestBTFParameters(t *testing.T) {
	var task *btf.Struct
	if err := needBTF(t).TypeByName("task_struct", &task); err != nil {
		t.Fatal(err)
	}
	parent := task.Members[slices.IndexFunc(task.Members, func(m btf.Member) bool { return m.Name == "parent" })].Offset / 8
	tags := []string{"", "arg:trusted", "arg:nullable", "arg:untrusted", "arg:nonnull", "arg:ctx"}
	params := []string{"struct task_struct *p", "struct task_struct___x *p", "struct nothing_alike *p", "int *p", "void *p", "struct sock *p", "int p"}
	values := []string{"r1 = r6", "r1 = r7", "r1 = 0", "r1 = r10", "r1 = r8", "r1 = r6\nr1 += 8", "r1 = r9", "r1 = 77"}
	bodies := []string{"r2 = 0", "r2 = *(u64 *)(r1 + 8)", "if r1 == 0 goto out\nr2 = *(u32 *)(r1 + 16)\nout: r2 = 0", "*(u64 *)(r1 + 0) = 0"}
	var programs []*program.Program
	var names []string
	k := btfKind{typ: ebpf.Tracing, attach: ebpf.AttachTraceIter, to: "task"}
	for i, a := range tags {
		for _, b := range tags[i:] {
			for _, param := range params {
				for _, v := range values {
					for _, body := range bodies {
						p := k.program(t, fmt.Sprintf(`.struct task_struct { long a; long b; long c; }
.struct task_struct___x { long a; long b; long c; }
.struct nothing_alike { long a; long b; long c; }
.struct sock { long a; long b; long c; }
.func int prog(void *ctx)
r8 = r1
r6 = *(u64 *)(r1 + 8)
if r6 != 0 goto task
r0 = 0
exit
task: r7 = *(u64 *)(r6 + %d)
r9 = *(u64 *)(r8 + 0)
%s
call f
r0 = 0
exit
.func int f(%s) global
%s
r0 = 0
exit
`, parent, v, param, body))
						p.Funcs[1].Type.ParamTags = [][]string{slices.DeleteFunc([]string{a, b}, func(s string) bool { return s == "" })}
						programs = append(programs, p)
						names = append(names, fmt.Sprintf("%s %s for %s: %s; %s", a, b, param, v, body))
					}
				}
			}
		}
	}
	r := btfReport{known: knownParameter}
	each(len(programs), func(i int) { r.compare(t, names[i], programs[i]) })
	t.Logf("%d programs, %d accepted, %d without a verdict, %d differ", r.programs.Load(), r.accepted.Load(), r.none.Load(), r.differ.Load())
	if r.accepted.Load() == 0 {
		t.Error("nothing was accepted")
	}
}

// knownParameter: 6.18 lets global functions take structures of the kernel for memory, which they could write, and a constant NULL for
// what they can rely on not to be NULL (docs/differences.md).
func knownParameter(v Verdict) bool {
	return !v.Ours && (strings.Contains(v.OurReason, "ptr_ expected=fp") || strings.Contains(v.OurReason, "is expected to be non-NULL"))
}
