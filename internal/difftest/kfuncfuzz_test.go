package difftest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// This file has random programs on what functions of the kernel make: iterators of several kinds, sections, references to tasks and
// control groups. Most break a rule somewhere; the two verifiers have to find the same one.

// fuzzKfuncs are the functions that these programs call.
var fuzzKfuncs = []string{
	"bpf_rcu_read_lock", "bpf_rcu_read_unlock", "bpf_preempt_disable", "bpf_preempt_enable", "bpf_local_irq_save", "bpf_local_irq_restore",
	"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy", "bpf_iter_bits_new", "bpf_iter_bits_next", "bpf_iter_bits_destroy",
	"bpf_iter_task_new", "bpf_iter_task_next", "bpf_iter_task_destroy", "bpf_iter_css_new", "bpf_iter_css_next", "bpf_iter_css_destroy",
	"bpf_iter_task_vma_new", "bpf_iter_task_vma_next", "bpf_iter_task_vma_destroy",
	"bpf_task_from_pid", "bpf_task_acquire", "bpf_task_release", "bpf_cgroup_from_id", "bpf_cgroup_acquire", "bpf_cgroup_release",
	"bpf_task_under_cgroup", "bpf_cpumask_create", "bpf_cpumask_release", "bpf_cpumask_first", "bpf_copy_from_user_str", "bpf_throw",
}

// iterSteps are the kinds of iterators, with the arguments that their beginning gets.
var iterSteps = map[string]string{
	"num": "r2 = 0\nr3 = 9\n", "bits": "r2 = r10\nr2 += -64\nr3 = 1\n", "task": "r2 = 0\nr3 = 0\n", "css": "r2 = r%d\nr3 = 1\n", "task_vma": "r2 = r%d\nr3 = 0\n",
}

var iterNames = []string{"num", "num", "bits", "task", "css", "task_vma"}

// kfuncFuzz makes a program.
type kfuncFuzz struct {
	r *rand.Rand
	s strings.Builder
	n int
}

func (f *kfuncFuzz) pick(choices ...string) string { return choices[f.r.IntN(len(choices))] }

func (f *kfuncFuzz) printf(format string, args ...any) { fmt.Fprintf(&f.s, format, args...) }

// reg is one of the registers that values stay in.
func (f *kfuncFuzz) reg() int { return 7 + f.r.IntN(3) }

// slot makes r1 point to a place for an object.
func (f *kfuncFuzz) slot() {
	f.printf("r1 = r10\nr1 += %d\n", -8*(1+f.r.IntN(3)))
}

func (f *kfuncFuzz) step() {
	f.n++
	n := f.n
	switch f.r.IntN(15) {
	case 14:
		f.throw()
	case 0, 1:
		f.printf("call %s\n", f.pick(fuzzKfuncs[:4]...))
	case 2:
		f.slot()
		f.printf("call %s\n", f.pick(fuzzKfuncs[4:6]...))
	case 3:
		f.section()
	case 4:
		f.loop()
	case 5:
		f.iter()
	case 6, 7:
		f.object()
	case 8:
		f.printf("if r%d %s 0 goto %s\n", f.reg(), f.pick("==", "!="), f.pick("out", fmt.Sprintf("l%d", n)))
	case 9:
		f.printf("r0 = *(u64 *)(r10 - %d)\n", 8*(1+f.r.IntN(3)))
	case 10:
		f.printf("*(u64 *)(r10 - %d) = %d\n", 8*(1+f.r.IntN(3)), f.r.IntN(2))
	case 11:
		f.printf("*(u64 *)(r10 - 40) = r%d\nr%d = *(u64 *)(r10 - 40)\n", f.reg(), f.reg())
	case 12:
		f.sleep()
	default:
		f.printf("if r%d == 0 goto out\n", f.reg())
		f.printf("r0 = *(u64 *)(r%d + %d)\n", f.reg(), 8*f.r.IntN(4))
	}
	f.printf("l%d: r0 = 0\n", n)
}

// section is a whole section around two steps.
func (f *kfuncFuzz) section() {
	switch f.r.IntN(3) {
	case 0:
		f.printf("call bpf_rcu_read_lock\n")
		defer f.printf("call bpf_rcu_read_unlock\n")
	case 1:
		f.printf("call bpf_preempt_disable\n")
		defer f.printf("call bpf_preempt_enable\n")
	case 2:
		at := -8 * (1 + f.r.IntN(3))
		f.printf("r1 = r10\nr1 += %d\ncall bpf_local_irq_save\n", at)
		defer f.printf("r1 = r10\nr1 += %d\ncall bpf_local_irq_restore\n", at)
	}
	if f.n < 12 {
		f.step()
	}
}

// start begins an iterator at an offset.
func (f *kfuncFuzz) start(kind string, at int) {
	args := iterSteps[kind]
	if strings.Contains(args, "%d") {
		args = fmt.Sprintf(args, f.reg())
	}
	f.printf("r1 = r10\nr1 += %d\n%scall bpf_iter_%s_new\n", at, args, kind)
}

// loop is a whole loop over an iterator, with a step in it.
func (f *kfuncFuzz) loop() {
	kind, at, n := iterNames[f.r.IntN(len(iterNames))], -8*(1+f.r.IntN(5)), f.n
	f.start(kind, at)
	f.printf("again%d: r1 = r10\nr1 += %d\ncall bpf_iter_%s_next\nif r0 == 0 goto done%d\n", n, at, kind, n)
	if f.r.IntN(2) == 0 {
		f.printf("r%d = r0\n", f.reg())
	}
	if f.n < 12 {
		f.step()
	}
	f.printf("goto again%d\ndone%d: r1 = r10\nr1 += %d\ncall bpf_iter_%s_destroy\n", n, n, at, kind)
}

// iter is one call on an iterator.
func (f *kfuncFuzz) iter() {
	kind := iterNames[f.r.IntN(len(iterNames))]
	if f.r.IntN(3) == 0 {
		f.start(kind, -8*(1+f.r.IntN(4)))
		return
	}
	f.slot()
	if f.r.IntN(2) == 0 {
		f.printf("call bpf_iter_%s_destroy\n", kind)
		return
	}
	f.printf("call bpf_iter_%s_next\nr%d = r0\n", kind, f.reg())
}

// object takes or releases a reference, or looks at an object.
func (f *kfuncFuzz) object() {
	switch name := f.pick(fuzzKfuncs[21:31]...); name {
	case "bpf_task_from_pid", "bpf_cgroup_from_id", "bpf_cpumask_create":
		f.printf("r1 = 1\ncall %s\nr%d = r0\n", name, f.reg())
	case "bpf_task_under_cgroup":
		f.printf("r1 = r%d\nr2 = r%d\ncall %s\n", f.reg(), f.reg(), name)
	case "bpf_task_acquire", "bpf_cgroup_acquire":
		f.printf("r1 = r%d\ncall %s\nr%d = r0\n", f.reg(), name, f.reg())
	default:
		f.printf("r1 = r%d\ncall %s\n", f.reg(), name)
	}
}

// throw ends the program, from one of several places. (No program has an exception callback: 6.18.44 never comes back from some that
// have dead loops beside one.)
func (f *kfuncFuzz) throw() {
	f.printf("%s", f.pick(
		"r1 = 0\ncall bpf_throw\n", "r1 = r8\ncall bpf_throw\n", "r1 = 1\ncall thrower\n", "r1 = 1\ncall global_thrower\n"))
}

// sleep is what may sleep: a helper, a function of the kernel, a function of the program; or what may not.
func (f *kfuncFuzz) sleep() {
	f.printf("%s", f.pick(
		"r1 = r10\nr1 += -64\nr2 = 8\nr3 = 0\ncall 148\n",
		"r1 = r10\nr1 += -64\nr2 = 8\nr3 = 0\nr4 = 0\ncall bpf_copy_from_user_str\n",
		"r1 = 0\ncall sleeper\n", "r1 = 0\ncall calm\n"))
}

// fuzzFuncs are the functions of the program that can be called; the kernel knows no others than those that are.
var fuzzFuncs = map[string]string{
	"sleeper": ".func int sleeper(int a) global\n*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\ncall 148\nr0 = 0\nexit\n",
	"calm":    ".func int calm(int a) global\nr0 = 0\nexit\n",

	"thrower":        ".func int thrower(int a)\nif r1 == 0 goto no\nr1 = 1\ncall bpf_throw\nno: r0 = 0\nexit\n",
	"global_thrower": ".func int global_thrower(int a) global\nif r1 == 0 goto none\ncall bpf_throw\nnone: r0 = 0\nexit\n",
}

// kfuncSource is the program of a seed.
func kfuncSource(seed uint64) string {
	f := kfuncFuzz{r: rand.New(rand.NewPCG(seed, 11))}
	f.printf("%s", f.pick(".type tc\n", ".type syscall\n.flags 16\n"))
	for _, name := range fuzzKfuncs {
		f.printf(".kfunc void %s(void) unresolved\n", name)
	}
	f.printf(".func int main(void *ctx) global\nr6 = r1\n*(u64 *)(r10 - 64) = 0\nr7 = 0\nr8 = 0\nr9 = 0\n")
	for range 2 + f.r.IntN(8) {
		f.step()
	}
	f.printf("out: r0 = 0\nexit\n")
	for _, name := range slices.Sorted(maps.Keys(fuzzFuncs)) {
		if strings.Contains(f.s.String(), "call "+name+"\n") {
			f.printf("%s", fuzzFuncs[name])
		}
	}
	return f.s.String()
}

// saysWithFaults reports whether the kernel's verdict and words are ours if its known faults are ours, too.
func saysWithFaults(p *program.Program, v Verdict) bool {
	_, err := verifier.Verify(p, verifier.Options{Target: kernel.Target(), Helpers: helpers.Proto, Kernel: program.HostTypes, CPUs: ebpf.MustPossibleCPU(),
		InsnLimit: randomLimit, Kernel618: verifier.LikeFaults})
	if v.Kernel {
		return err == nil
	}
	return err != nil && strings.Contains(fmt.Sprintf("%+v", err), v.KernelReason)
}

// TestKfuncPrograms has both verifiers judge random programs on iterators, sections and references.
func TestKfuncPrograms(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of its functions: ", err)
	}
	accepted, differ, refused := 0, 0, 0
	total := 10 * *verdictPrograms
	for i := range total {
		seed := *verdictSeed + uint64(i)
		src := kfuncSource(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "kfuncs"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		for k := range p.Kfuncs {
			var fn *btf.Func
			if name := p.Kfuncs[k].Name; program.BuiltinKfunc(name) && program.HostTypes().TypeByName(name, &fn) == nil {
				p.Kfuncs[k].Type = fn
			}
		}
		v, err := judge(p, 0, randomLimit)
		if v.Ours && v.Kernel {
			accepted++
		}
		if strings.Contains(v.OurReason, unsupportedYet) {
			refused++
			continue
		}
		if d := disagree(p, v, err); d != "" && !saysWithFaults(p, v) {
			if differ++; differ <= 10 {
				t.Errorf("seed %d: %s\n%s", seed, d, src[strings.Index(src, ".func int main"):])
			}
		}
	}
	t.Logf("%d programs, %d accepted, %d differ, %d refused by name", total, accepted, differ, refused)
	if accepted == 0 {
		t.Error("no program was accepted")
	}
}
