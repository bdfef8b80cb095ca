package difftest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file compares calls of the kernel's own functions (kfuncs): who can call each of them, and what their arguments can be.

// kfuncProgram is a program of kind k that calls kfunc name as its text says; declarations of what the text calls are added.
func kfuncProgram(t *testing.T, k ctxKind, sleepable bool, name, body string) *program.Program {
	t.Helper()
	src := ".kfunc void " + name + "(void) unresolved\n"
	for _, m := range slices.Sorted(maps.Keys(callMaps)) {
		if strings.Contains(body, "map["+m+"]") {
			src += ".map " + m + " " + callMaps[m] + "\n"
		}
	}
	p, err := asmtext.Program(src+body, asmtext.ProgramOptions{Name: "call"})
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, src+body)
	}
	var f *btf.Func
	if program.BuiltinKfunc(name) && program.HostTypes().TypeByName(name, &f) == nil {
		p.Kfuncs[0].Type = f // skep knows these without the kernel's types, by their declaration
	}
	q := k.program()
	p.Type, p.AttachType, p.Flags = q.Type, q.AttachType, q.Flags
	if sleepable {
		p.Flags |= flagSleepable
	}
	return p
}

const flagSleepable = 1 << 4 // BPF_F_SLEEPABLE

// hostHas reports whether the running kernel has a function of that name.
func hostHas(name string) bool {
	var f *btf.Func
	types := program.HostTypes()
	return types != nil && types.TypeByName(name, &f) == nil
}

// TestKfuncTypes compares, for every function of the kernel and every kind of program, whether the one may call the other: with all
// arguments 0, so that the next words are compared, too.
func TestKfuncTypes(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of who can call its functions: ", err)
	}
	var report ctxReport
	refused := 0
	for _, name := range kernelkfunc.Names() {
		if !hostHas(name) {
			t.Errorf("the kernel has no function %s", name)
			continue
		}
		for _, k := range ctxKinds() {
			for _, sleepable := range []bool{false, true} {
				if sleepable && !progtype.MaySleep(k.typ, k.attach) {
					continue
				}
				p := kfuncProgram(t, k, sleepable, name, "r1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\ncall "+name+"\nr0 = 1\nexit\n")
				v, err := judge(p, 0, 0)
				d := disagree(p, v, err)
				if strings.Contains(d, unsupportedYet) {
					if strings.Contains(v.KernelReason, "is not allowed") {
						report.add(t, fmt.Sprintf("%s in %v", name, k), d)
					}
					refused++
					continue
				}
				report.add(t, fmt.Sprintf("%s in %v", name, k), d)
			}
		}
	}
	t.Logf("%d calls, %d differ, %d refused by name", report.programs, report.differ, refused)
}

const unsupportedYet = "skep does not verify this yet"

// kfuncCall is a call with its arguments.
type kfuncCall struct {
	kind      ctxKind
	sleepable bool
	name      string
	args      []string
}

func (c kfuncCall) String() string { return fmt.Sprintf("%s%v in %v", c.name, c.args, c.kind) }

func (c kfuncCall) program(t *testing.T) *program.Program {
	t.Helper()
	body := helperCall{kind: c.kind}.prologue()
	for i, v := range c.args {
		if v != "" {
			body += set(i+1, v)
		}
	}
	return kfuncProgram(t, c.kind, c.sleepable, c.name, body+"call "+c.name+"\nr0 = 1\nexit\n")
}

// suits is a value that an argument of that type may take.
func suits(k ctxKind, p btf.FuncParam) string {
	ptr, ok := btf.UnderlyingType(p.Type).(*btf.Pointer)
	if !ok {
		return "8"
	}
	target := btf.UnderlyingType(ptr.Target)
	switch s, isStruct := target.(*btf.Struct); {
	case strings.HasSuffix(p.Name, "__str"):
		return "map[text][0] ll"
	case strings.HasSuffix(p.Name, "__map"):
		return "map[array] ll"
	case strings.HasSuffix(p.Name, "__ign"), strings.HasSuffix(p.Name, "__prog"):
		return "0"
	case isStruct && (s.Name == "xdp_md" || s.Name == "__sk_buff" || strings.Contains(s.Name, "_kern")):
		return "r6"
	}
	return "r10 + -64"
}

// kfuncCalls are the calls of one function: all arguments suitable, and each in turn everything else.
func kfuncCalls(k ctxKind, name string) []kfuncCall {
	var f *btf.Func
	if program.HostTypes().TypeByName(name, &f) != nil {
		return nil
	}
	params := f.Type.(*btf.FuncProto).Params
	sleepable := kernelkfunc.Find(name).Flags&kernelkfunc.Sleepable != 0 || progtype.MustSleep(k.typ)
	right := make([]string, len(params))
	for i, p := range params {
		right[i] = suits(k, p)
	}
	out := []kfuncCall{{k, sleepable, name, right}}
	for i := range params {
		for _, v := range append([]string{""}, callValues...) {
			args := slices.Clone(right)
			args[i] = v
			out = append(out, kfuncCall{k, sleepable, name, args})
		}
	}
	return out
}

// TestKfuncCalls compares, for every function of the kernel, what its arguments may be, in two kinds of programs that have it.
func TestKfuncCalls(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of its functions' arguments: ", err)
	}
	var report ctxReport
	refused := map[string]int{}
	for _, name := range kernelkfunc.Names() {
		known := kernelkfunc.Find(name)
		kinds := 0
		for _, k := range ctxKinds() {
			if !known.For(k.typ, k.attach) || known.Flags&kernelkfunc.Sleepable != 0 && !progtype.MaySleep(k.typ, k.attach) {
				continue
			}
			if kinds++; kinds > 2 {
				break
			}
			for _, c := range kfuncCalls(k, name) {
				d := callDiffers(c.program(t))
				if strings.Contains(d, unsupportedYet) {
					refused[name]++
					continue
				}
				report.add(t, c.String(), d)
			}
		}
	}
	sum := 0
	for _, n := range refused {
		sum += n
	}
	t.Logf("%d calls, %d differ, %d refused by name, of %v", report.programs, report.differ, sum, slices.Sorted(maps.Keys(refused)))
}

// TestKfuncContexts compares what the context of each kind of program is in the kernel, and the first numbers that it holds.
func TestKfuncContexts(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of what contexts are: ", err)
	}
	var report ctxReport
	for _, k := range ctxKinds() {
		for _, rest := range []string{"", "r1 = *(u64 *)(r0 + 0)\n", "r1 = *(u32 *)(r0 + 8)\n", "r1 = *(u8 *)(r0 + 4096)\n", "*(u64 *)(r0 + 0) = 0\n"} {
			p := kfuncProgram(t, k, false, "bpf_cast_to_kern_ctx", "call bpf_cast_to_kern_ctx\n"+rest+"r0 = 1\nexit\n")
			report.add(t, fmt.Sprintf("%q in %v", rest, k), callDiffers(p))
		}
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
}
