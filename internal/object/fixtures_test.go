package object_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

func load(t testing.TB, name string) *object.Object {
	t.Helper()
	f, err := os.Open(filepath.Join("../../testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func build(t testing.TB, o *object.Object, name string, opt program.Options) *program.Program {
	t.Helper()
	p, err := program.FromSpec(o.Spec, name, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTwelve(t *testing.T) {
	o := load(t, "twelve.o")
	want := []string{"call_function", "call_kfunc", "missing_argument", "load_after_store", "no_incoming"}
	if diff := cmp.Diff(want, o.Programs()); diff != "" {
		t.Error(diff)
	}
	wantTags := []string{"comment:test_expect_failure", "comment:test_expect_msg=0=callee expects 12 args, stack arg7 is not initialized"}
	if diff := cmp.Diff(wantTags, o.Tags("missing_argument")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]object.Extern{{Name: "kfunc12", Kind: object.ExternKfunc, Weak: true}}, o.Externs); diff != "" {
		t.Error(diff)
	}
	p := build(t, o, "call_function", program.Options{})
	if len(p.Funcs) != 2 || p.Funcs[1].Name != "sum12" || p.Funcs[1].Params() != 12 || p.Funcs[1].Global || !p.Funcs[0].Global {
		t.Errorf("functions: %+v", p.Funcs)
	}
	loads := 0
	for _, in := range p.Insns {
		if in.IsStackArgLoad() {
			loads++
		}
	}
	if loads != 7 {
		t.Errorf("%d loads of stack arguments", loads)
	}
	if l := p.LineAt(p.Funcs[1].Start); l == nil || !strings.HasSuffix(l.File, "twelve.c") || !strings.Contains(l.Text, "long sum12(long a") {
		t.Errorf("line of sum12: %+v", l)
	}
}

// TestKfunc: the address of a kfunc is 0 or not by what the registry says, and the call names it.
func TestKfunc(t *testing.T) {
	o := load(t, "twelve.o")
	for _, registered := range []bool{false, true} {
		p := build(t, o, "call_kfunc", program.Options{Kfuncs: func(name string) (program.KfuncFlags, bool) {
			return program.KfuncSleepable, registered && name == "kfunc12"
		}})
		if len(p.Kfuncs) != 1 || p.Kfuncs[0].Name != "kfunc12" || !p.Kfuncs[0].Weak || p.Kfuncs[0].Resolved != registered ||
			len(p.Kfuncs[0].Type.Type.(*btf.FuncProto).Params) != 12 {
			t.Fatalf("kfuncs: %+v", p.Kfuncs)
		}
		loads, calls := 0, 0
		for pc, in := range p.Insns {
			if in.IsLdImm64() {
				loads++
				if got := isa.Imm64(in, p.Insns[pc+1]) != 0; got != registered || in.Src != 0 {
					t.Errorf("registered %v: address load %+v", registered, in)
				}
			}
			if in.IsKfuncCall() {
				calls++
				if in.Imm != 0 {
					t.Errorf("call of kfunc %d", in.Imm)
				}
			}
		}
		if loads != 1 || calls != 1 {
			t.Errorf("%d loads, %d calls", loads, calls)
		}
	}
}

func TestWeakAndHidden(t *testing.T) {
	o := load(t, "globalfn.o")
	p := build(t, o, "call_weak_and_hidden", program.Options{})
	got := map[string][2]bool{}
	for _, f := range p.Funcs {
		got[f.Name] = [2]bool{f.Global, f.Weak}
	}
	want := map[string][2]bool{"call_weak_and_hidden": {true, false}, "weak_twice": {true, true}, "hidden_first": {false, false}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("global, weak: %s", diff)
	}
	if f := o.Function("hidden_first"); f == nil || !f.Hidden {
		t.Errorf("hidden_first: %+v", f)
	}
}

func TestOldDialect(t *testing.T) {
	p := build(t, load(t, "old_dialect.o"), "old_nesting", program.Options{})
	if !p.OldDialect {
		t.Error("not recognised")
	}
	var got []string
	for pc, in := range p.Insns {
		if in.IsStackArgLoad() || in.IsStackArgStore() {
			got = append(got, p.Funcs[p.FuncAt(pc)].Name+": "+string(isa.AppendText(nil, p.Insns, pc, nil)))
		}
	}
	want := []string{
		"old_nesting: (7b) *(u64 *)(r11 -8) = r6", "old_nesting: (7b) *(u64 *)(r11 -16) = r6",
		"outer7: (79) r6 = *(u64 *)(r11 +8)", "outer7: (79) r6 = *(u64 *)(r11 +16)",
		"outer7: (7b) *(u64 *)(r11 -8) = r6", "outer7: (7b) *(u64 *)(r11 -16) = r6",
		"inner7: (79) r6 = *(u64 *)(r11 +8)", "inner7: (79) r6 = *(u64 *)(r11 +16)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGlobals(t *testing.T) {
	o := load(t, "globals.o")
	if err := o.Spec.Variables["limit"].Set(uint32(99)); err != nil {
		t.Fatal(err)
	}
	p := build(t, o, "use", program.Options{})
	maps := map[string]program.Map{}
	for _, m := range p.Maps {
		maps[m.Name] = m
	}
	ro := maps[".rodata"]
	if !ro.Frozen || ro.Flags != 0x80 || !slices.Contains(ro.Contents, 99) || ro.Type != ebpf.Array || ro.MaxEntries != 1 {
		t.Errorf(".rodata: %+v", ro)
	}
	if d := maps[".data"]; d.Frozen || d.Contents != nil || d.ValueSize == 0 {
		t.Errorf(".data: %+v", d)
	}
	if _, ok := maps[".bss"]; !ok || len(maps) != len(p.Maps) {
		t.Errorf("maps: %+v", p.Maps)
	}
	for pc, in := range p.Insns {
		if in.IsLdImm64() && (in.Src != isa.PseudoMapValue || int(in.Imm) >= len(p.Maps) || uint32(p.Insns[pc+1].Imm) >= p.Maps[in.Imm].ValueSize) {
			t.Errorf("%d: %+v %+v", pc, in, p.Insns[pc+1])
		}
	}
}

// TestSections: sections .bss.NAME are maps of their own, with their names everywhere.
func TestSections(t *testing.T) {
	o := load(t, "private.o")
	p := build(t, o, "sections", program.Options{})
	var got []string
	for _, m := range p.Maps {
		ds, ok := m.Value.(*btf.Datasec)
		if !ok || ds.Name != m.Name || o.Spec.Maps[m.Name].Name != m.Name || ds.Size != m.ValueSize {
			t.Errorf("map %s: %+v", m.Name, m)
		}
		got = append(got, m.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{".bss", ".bss.one", ".bss.two", ".data.set"}, got); diff != "" {
		t.Error(diff)
	}
	for name := range o.Spec.Maps {
		if strings.HasPrefix(name, ".data.bss") {
			t.Errorf("map %s", name)
		}
	}
	if v := o.Spec.Variables["one"]; v == nil || v.SectionName != ".bss.one" || v.Size() != 16 || v.Type == nil {
		t.Errorf("variable: %+v", v)
	}
	for _, section := range []string{".bss.one", ".data.bss.one"} {
		data, err := program.SectionData(o.Spec, section)
		if ok := section == ".bss.one"; ok != (err == nil) || ok && len(data) != 16 {
			t.Errorf("%s: %x, %v", section, data, err)
		}
	}
}

// TestKernelVariables: one with a type is like one without. Only the program that needs it is refused.
func TestKernelVariables(t *testing.T) {
	o := load(t, "private.o")
	want := []object.Extern{{Name: "weak_variable", Kind: object.ExternKsym, Weak: true}, {Name: "typed_variable", Kind: object.ExternKsym}}
	if diff := cmp.Diff(want, o.Externs); diff != "" {
		t.Error(diff)
	}
	p := build(t, o, "weak_is_null", program.Options{})
	i := slices.IndexFunc(p.Insns, isa.Insn.IsLdImm64)
	if i < 0 || p.Insns[i].Src != 0 || isa.Imm64(p.Insns[i], p.Insns[i+1]) != 0 {
		t.Errorf("the address of a weak variable: %+v", p.Insns)
	}
	p = build(t, o, "needs_variable", program.Options{Ksyms: true})
	if diff := cmp.Diff([]program.Ksym{{Name: "typed_variable", Typed: true}}, p.Ksyms); diff != "" {
		t.Error(diff)
	}
	if !slices.ContainsFunc(p.Insns, func(in isa.Insn) bool { return in.IsLdImm64() && in.Src == isa.PseudoBTFID && in.Imm == 0 }) {
		t.Errorf("the address of a typed variable: %+v", p.Insns)
	}
	_, err := program.FromSpec(o.Spec, "needs_variable", program.Options{})
	if err == nil || !strings.Contains(err.Error(), "kernel variable typed_variable: there are no kernel variables") {
		t.Error(err)
	}
}

func TestCORE(t *testing.T) {
	target, err := btf.LoadSpec("../../testdata/core_target.o")
	if err != nil {
		t.Fatal(err)
	}
	opt := program.Options{KernelTypes: target}
	o := load(t, "core.o")
	want := map[string]string{ // the instruction with the target's value
		"moved_offset": "(b7) r0 = 16",
		"gone_exists":  "(b7) r0 = 0",
		"load_moved":   "(79) r0 = *(u64 *)(r1 +16)",
	}
	for name, text := range want {
		p := build(t, o, name, opt)
		var got []string
		for pc := 0; pc < len(p.Insns); pc += p.Insns[pc].Slots() {
			got = append(got, string(isa.AppendText(nil, p.Insns, pc, nil)))
		}
		if !slices.Contains(got, text) {
			t.Errorf("%s: no %s in\n%s", name, text, strings.Join(got, "\n"))
		}
	}
}

// TestPadded: lines, prototypes and CO-RE relocations stand on the right instructions where functions are padded, and
// cilium's own reader puts them on wrong ones (else this repair can go).
func TestPadded(t *testing.T) {
	target, err := btf.LoadSpec("../../testdata/core_target.o")
	if err != nil {
		t.Fatal(err)
	}
	o := load(t, "padded.o")
	if wrong := misplaced(build(t, o, "padded", program.Options{KernelTypes: target})); len(wrong) != 0 {
		t.Errorf("misplaced: %v", wrong)
	}
	for pc, in := range build(t, o, "padded", program.Options{KernelTypes: target}).Insns {
		if in.Op == 0xb7 && in.Imm != 16 {
			t.Errorf("%d: offset of moved is %d", pc, in.Imm)
		}
	}
	spec, err := ebpf.LoadCollectionSpec("../../testdata/padded.o")
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.FromSpec(spec, "padded", program.Options{KernelTypes: target})
	if err == nil && len(misplaced(p)) == 0 {
		t.Error("cilium/ebpf places records of padded functions rightly: internal/object need not repair them any more")
	}
}

// misplaced returns functions whose lines are not their own.
func misplaced(p *program.Program) []string {
	var wrong []string
	for _, f := range p.Funcs {
		own := 0
		for _, l := range p.Lines {
			if l.Insn >= f.Start && l.Insn < f.End && strings.Contains(l.Text, "in "+f.Name) {
				own++
			}
		}
		if own == 0 && f.Name != "padded" || f.Type == nil || f.Type.Name != f.Name {
			wrong = append(wrong, f.Name)
		}
	}
	return wrong
}

func TestKconfig(t *testing.T) {
	o := load(t, "kconfig.o")
	values := func(name string) (string, bool) {
		return "0x010203", name == "LINUX_KERNEL_VERSION"
	}
	for _, name := range o.Programs() {
		p := build(t, o, name, program.Options{Kconfig: values})
		if len(p.Maps) != 1 || !p.Maps[0].Frozen || p.Maps[0].Name != ".kconfig" {
			t.Fatalf("%s: maps %+v", name, p.Maps)
		}
		pc := slices.IndexFunc(p.Insns, isa.Insn.IsLdImm64)
		off := p.Insns[pc+1].Imm
		got := p.Maps[0].Contents[off : off+4]
		if want := map[string][]byte{"version": {3, 2, 1, 0}, "missing": {0, 0, 0, 0}}[name]; !slices.Equal(got, want) {
			t.Errorf("%s: %v at %d, want %v", name, got, off, want)
		}
	}
	_, err := program.FromSpec(o.Spec, "version", program.Options{Kconfig: func(string) (string, bool) { return "", false }})
	if err == nil || !strings.Contains(err.Error(), "kconfig variable LINUX_KERNEL_VERSION has no value") {
		t.Errorf("missing value: %v", err)
	}
}

// TestFixturesInKernel asks the running kernel for its verdict on every program of testdata that has no stack
// arguments and no expectation that is skep's own, and runs those that have a return value.
func TestFixturesInKernel(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("no kernel to compare with: ", err)
	}
	target, err := btf.LoadSpec("../../testdata/core_target.o")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("../../testdata/*.o")
	judged := 0
	for _, path := range files {
		file := filepath.Base(path)
		if file == "core_target.o" {
			continue
		}
		o, opt := load(t, file), program.Options{}
		if file == "core.o" || file == "padded.o" {
			opt.KernelTypes = target
		}
		for _, name := range o.Programs() {
			if slices.Contains(o.Tags(name), "comment:test_auxiliary") {
				continue
			}
			p := build(t, o, name, opt)
			if len(p.Kfuncs) > 0 || slices.ContainsFunc(p.Insns, func(in isa.Insn) bool { return in.Src == isa.R11 || in.Dst == isa.R11 }) {
				continue
			}
			tags := o.Tags(name)
			want := !slices.Contains(tags, "comment:test_expect_failure")
			got, log, err := kernel.Verify(p, 1)
			if errors.Is(err, kernel.ErrNoVerdict) {
				t.Logf("%s/%s: %v", file, name, err)
				continue
			}
			judged++
			if got != want {
				t.Errorf("%s/%s: the kernel says %v (%v)\n%s", file, name, got, err, log)
			}
			for _, tag := range tags {
				if _, msg, ok := strings.Cut(strings.TrimPrefix(tag, "comment:test_expect_msg="), "="); ok && strings.HasPrefix(tag, "comment:test_expect_msg=") && !strings.Contains(log, msg) {
					t.Errorf("%s/%s: the kernel's log has no %q:\n%s", file, name, msg, log)
				}
				if v, ok := strings.CutPrefix(tag, "comment:test_retval="); ok && got && p.Type != ebpf.Syscall && file != "tailcall.o" &&
					name != "each_keeps_key" { // the kernel finds something else by then: docs/differences.md
					runInKernel(t, file, p, v)
				}
			}
		}
	}
	if judged < 15 {
		t.Errorf("only %d programs judged", judged)
	}
}

func runInKernel(t *testing.T, file string, p *program.Program, want string) {
	t.Helper()
	k, err := kernel.Load(p)
	if err != nil {
		t.Errorf("%s/%s: %v", file, p.Name, err)
		return
	}
	defer k.Close()
	if slices.ContainsFunc(p.Maps, func(m program.Map) bool { return strings.HasPrefix(m.Name, ".data") || m.Inner != nil }) {
		return // its .data, or its map of maps, has initial values that only a collection sets
	}
	out, err := k.Run(kernel.RunInput{Data: make([]byte, 64)})
	if err != nil {
		t.Errorf("%s/%s: %v", file, p.Name, err)
		return
	}
	if strconv.Itoa(int(int32(out.Ret))) != want {
		t.Errorf("%s/%s: returns %d, want %s", file, p.Name, int32(out.Ret), want)
	}
}

// TestStructOps: a program knows the method that it is from its place in a structure, and one without a place knows none.
func TestStructOps(t *testing.T) {
	o := load(t, "../internal/object/testdata/structops.o")
	want := map[string]string{"ssthresh": "tcp_congestion_ops:ssthresh", "init": "tcp_congestion_ops:init", "nowhere": ""}
	got := map[string]string{}
	for name, ps := range o.Spec.Programs {
		got[name] = ps.AttachTo
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
