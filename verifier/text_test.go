package verifier_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// The files testdata/*.txt hold programs as text, each behind a line "=== name". A line of code that ends in
// "// ERROR text" is where the verifier must reject, with a message that holds text; "// CODE code" at the head of a
// case names the code it must have; a case without ERROR must be accepted. "// LOG text" lines must appear in the log at
// level 2 and the figures, in that order. Cases are also judged by the running kernel, verdict and last message, unless they use stack
// arguments or say "// SKEP reason".

type textCase struct {
	file, name string
	line       int
	src        string
	errLine    int
	err        string
	code       string
	logs       []string
	skepOnly   string
}

func readCases(t testing.TB) []textCase {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var out []textCase
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var cur *textCase
		for i, line := range strings.Split(string(b), "\n") {
			if name, ok := strings.CutPrefix(line, "=== "); ok {
				out = append(out, textCase{file: strings.TrimSuffix(filepath.Base(f), ".txt"), name: name, line: i + 1})
				cur = &out[len(out)-1]
				continue
			}
			if cur == nil {
				continue
			}
			cur.src += line + "\n"
			note := func(key string) (string, bool) {
				_, text, ok := strings.Cut(line, "// "+key+" ")
				return strings.TrimSpace(text), ok
			}
			if text, ok := note("ERROR"); ok {
				if cur.err != "" {
					t.Fatalf("%s:%d: two ERRORs in one case", f, i+1)
				}
				cur.err, cur.errLine = text, i-cur.line+1
			}
			if text, ok := note("CODE"); ok {
				cur.code = text
			}
			if text, ok := note("LOG"); ok {
				cur.logs = append(cur.logs, text)
			}
			if text, ok := note("SKEP"); ok {
				cur.skepOnly = text
			}
		}
	}
	return out
}

func assemble(t testing.TB, c *textCase) *program.Program {
	t.Helper()
	p, err := asmtext.Program(c.src, asmtext.ProgramOptions{Name: "prog", Lines: true})
	if err != nil {
		t.Fatalf("testdata/%s.txt:%d: %v", c.file, c.line, err)
	}
	return p
}

func options(level uint32) verifier.Options {
	return verifier.Options{LogLevel: level, Helpers: helpers.Proto, Kernel: program.HostTypes}
}

// needKernelTypes skips a case of a file btf_*.txt where the running kernel does not show its types.
func needKernelTypes(t *testing.T, c *textCase) {
	if strings.HasPrefix(c.file, "btf_") && program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
}

func TestPrograms(t *testing.T) {
	for _, c := range readCases(t) {
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
			needKernelTypes(t, &c)
			p := assemble(t, &c)
			if program.HostTypes() == nil && slices.ContainsFunc(p.Kfuncs, isKernels) {
				t.Skip("no types of the kernel on this machine, which say what its functions take")
			}
			res, err := verifier.Verify(p, options(verifier.LogAll|verifier.LogStats))
			if c.err == "" {
				if err != nil {
					t.Fatalf("rejected: %+v", err)
				}
				inOrder(t, res.Log, c.logs)
				return
			}
			var ve *verifier.Error
			if !errors.As(err, &ve) {
				t.Fatalf("accepted, want %q", c.err)
			}
			if !strings.Contains(ve.Message, c.err) {
				t.Errorf("message %q, want %q\n%s", ve.Message, c.err, ve.Log)
			}
			if !strings.Contains(ve.Log, c.err) {
				t.Errorf("the log lacks %q:\n%s", c.err, ve.Log)
			}
			if ve.Source == nil || int(ve.Source.Number) != c.errLine {
				t.Errorf("rejected at %+v, want line %d\n%s", ve.Source, c.errLine, ve.Log)
			}
			if c.code != "" && string(ve.Code) != c.code {
				t.Errorf("code %s, want %s", ve.Code, c.code)
			}
			inOrder(t, ve.Log, c.logs)
		})
	}
}

func inOrder(t *testing.T, log string, want []string) {
	t.Helper()
	rest := log
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Fatalf("the log lacks %q:\n%s", w, log)
		}
		rest = after
	}
}

func usesStackArgs(p *program.Program) bool {
	for i := 0; i < len(p.Insns); i++ {
		in := p.Insns[i]
		if in.Dst >= isa.R11 || in.Src >= isa.R11 {
			return true
		}
		if in.IsLdImm64() {
			i++
		}
	}
	for i := range p.Funcs {
		if p.Funcs[i].Params() > isa.MaxRegArgs {
			return true
		}
	}
	return false
}

// isKernels reports whether a kfunc is the kernel's and not known without its types.
func isKernels(k program.Kfunc) bool { return !k.Resolved && kernelkfunc.Find(k.Name) != nil }

// isOurs reports whether a kfunc is one that the running kernel does not have; it would not know what to say.
func isOurs(k program.Kfunc) bool {
	return k.Resolved && !program.BuiltinKfunc(k.Name) || kernelkfunc.Find(k.Name) == nil
}

// before is what a case expects of the rules of 6.18 where those of the newest target, which it is written for, are others.
func (c textCase) before(p *program.Program) textCase {
	opt := options(verifier.LogStats)
	_, newest := verifier.Verify(p, opt)
	opt.Target = verifier.Target618
	_, err := verifier.Verify(p, opt)
	if fmt.Sprint(err) != fmt.Sprint(newest) {
		var ve *verifier.Error
		c.err, c.logs = "", nil
		if errors.As(err, &ve) {
			c.err = ve.Message
		}
	}
	return c
}

// TestProgramsInKernel lets the running kernel judge the same programs: same verdict, same last message.
func TestProgramsInKernel(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel cannot judge: ", err)
	}
	judged := 0
	for _, c := range readCases(t) {
		p := assemble(t, &c)
		if c.skepOnly != "" || usesStackArgs(p) || slices.ContainsFunc(p.Kfuncs, isOurs) {
			continue
		}
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
			accepted, log, err := kernel.Verify(p, verifier.LogAll|verifier.LogStats)
			if err != nil {
				t.Fatalf("no verdict: %v", err)
			}
			judged++
			if !kernel.Later() {
				c = c.before(p)
			}
			if accepted != (c.err == "") {
				t.Fatalf("kernel accepts: %v, want %v\n%s", accepted, c.err == "", log)
			}
			if c.err != "" && !strings.Contains(log, c.err) {
				t.Errorf("the kernel's log lacks %q:\n%s", c.err, log)
			}
			inOrder(t, log, c.logs)
		})
	}
	if judged == 0 {
		t.Error("no case was judged")
	}
}

// TestLevels: level 0 logs nothing on success, level 1 only the statistics, level 4 adds the time.
func TestLevels(t *testing.T) {
	c := textCase{src: "r0 = 0\nif r0 == 0 goto out\nr0 = 1\nout: exit\n"}
	for level, want := range map[uint32][]string{
		0: nil, 1: {"processed "}, 2: {"func#0 @0", "Live regs", "processed "}, 4: {"verification time ", "stack depth 0\n", "processed "},
	} {
		res, err := verifier.Verify(assemble(t, &c), options(level))
		if err != nil {
			t.Fatal(err)
		}
		if level == 0 && res.Log != "" || level == 1 && strings.Count(res.Log, "\n") != 1 {
			t.Errorf("level %d: log %q", level, res.Log)
		}
		inOrder(t, res.Log, want)
	}
}

// TestErrorText: one line for Error, the log for %+v.
func TestErrorText(t *testing.T) {
	c := textCase{src: "r0 = *(u64 *)(r10 + 8)\nexit\n"}
	_, err := verifier.Verify(assemble(t, &c), options(verifier.LogBranch))
	want := "program prog: invalid read from stack R10 off=8 size=8 (insn 0, prog.s:1)"
	if err == nil || err.Error() != want {
		t.Fatalf("%v, want %s", err, want)
	}
	if s := fmt.Sprintf("%+v", err); !strings.HasPrefix(s, want+"\n") || !strings.Contains(s, "0: R1=ctx() R10=fp0") {
		t.Errorf("%%+v: %s", s)
	}
}

// otherOrder are cases with two faults of which the kernel finds another first.
var otherOrder = map[string]bool{
	"arena/straight behind the arena": true, "btf_fields/socket filters have no locks": true, "calls/nine frames, never walked": true,
	"calls/recursion that ends by value": true, "sections/global function that sleeps, in a program that may not": true,
}

// TestProgramsUnprivileged lets the running kernel judge the same programs for who lacks all capabilities, and for who lacks CAP_PERFMON:
// same verdict, same last message. Types are out of reach without CAP_BPF.
func TestProgramsUnprivileged(t *testing.T) {
	restore, err := kernel.AllowUnprivileged()
	if err != nil {
		t.Skip("the running kernel cannot judge: ", err)
	}
	defer restore()
	const netAdmin, sysAdmin, perfmon, bpf = 1 << 12, 1 << 21, 1 << 38, 1 << 39
	for _, m := range []struct {
		name string
		caps verifier.Caps
		bits uint64
	}{{"all", verifier.AllCaps, netAdmin | sysAdmin | perfmon | bpf}, {"perfmon", verifier.CapPerfmon, sysAdmin | perfmon}} {
		judged, accepted := 0, 0
		for _, c := range readCases(t) {
			p := assemble(t, &c)
			if c.skepOnly != "" || usesStackArgs(p) || slices.ContainsFunc(p.Kfuncs, isOurs) {
				continue
			}
			opt := options(verifier.LogStats)
			opt.Without, opt.Target = m.caps, kernel.Target()
			_, err := verifier.Verify(p, opt)
			var ve *verifier.Error
			errors.As(err, &ve)
			if ve != nil && ve.Code == verifier.CodeUnsupported {
				continue
			}
			ok, log, kerr := kernel.VerifyWithout(p, verifier.LogStats, m.bits)
			if kerr != nil {
				continue // a type of programs or maps that the kernel does not say a word about
			}
			judged++
			if ok {
				accepted++
			}
			switch {
			case ok != (err == nil):
				t.Errorf("%s: %s/%s: the kernel accepts: %t, we: %v\n%s", m.name, c.file, c.name, ok, err, log)
			case ve != nil && !otherOrder[c.file+"/"+c.name] && !strings.Contains(log, strings.Split(ve.Message, "\n")[0]):
				t.Errorf("%s: %s/%s: we say %q, the kernel\n%s", m.name, c.file, c.name, ve.Message, log)
			}
		}
		t.Logf("%s: %d judged, %d accepted", m.name, judged, accepted)
		if judged < 300 || accepted < 30 {
			t.Errorf("%s: only %d judged, %d accepted", m.name, judged, accepted)
		}
	}
}
