package difftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// corpusFiles are the objects of one directory of -corpus.
func corpusFiles(t *testing.T, dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "*.o"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects in %s: %v", dir, err)
	}
	return files
}

// TestConcreteInsideAbstractCorpus is TestConcreteInsideAbstract for the programs of -corpus (SKEP_CORPUS) that can run.
func TestConcreteInsideAbstractCorpus(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	var c exactCount
	for _, dir := range filepath.SplitList(*corpusDir) {
		c.objects(t, corpusFiles(t, dir), program.Options{})
	}
	t.Logf("%d programs checked at %d instructions, %d refused, %d too long, %d cannot run", c.checked, c.steps, c.refused, c.long, len(c.skipped))
	if c.checked == 0 || c.steps == 0 {
		t.Error("nothing was checked")
	}
}

// unspecified are programs whose results are not the program's alone: what a privileged program finds on the stack before it wrote
// there, and where its memory lies.
var unspecified = map[string]string{
	"test_log_buf.o/good_prog":                                         "address",
	"timer_lockup.o/timer1_prog":                                       "time",
	"timer_lockup.o/timer2_prog":                                       "time",
	"verifier_basic_stack.o/uninitialized_stack2":                      "stack",
	"verifier_bounds.o/reg_not_equal_const":                            "stack",
	"verifier_raw_stack.o/stack_no_skb_load_bytes":                     "stack",
	"verifier_stack_ptr.o/array_map_using_bpf_b":                       "stack",
	"verifier_direct_packet_access.o/direct_packet_access_test4_write": "address",
	"verifier_direct_packet_access.o/test18_imm_pkt_ptr_1":             "address",
	"verifier_direct_packet_access.o/test19_imm_pkt_ptr_2":             "address",
	"verifier_direct_packet_access.o/test22_x_pkt_ptr_3":               "address",
	"verifier_lwt.o/packet_write_for_lwt_xmit":                         "address",
	"verifier_spill_fill.o/check_corrupted_spill_fill_lsb":             "address",
	"verifier_spill_fill.o/check_corrupted_spill_fill_msb":             "address",
	"verifier_spill_fill.o/check_valid_spill_fill":                     "address",
	"verifier_subprog_precision.o/stack_slot_aliases_precision":        "stack",
	"verifier_search_pruning.o/state_equality_check_way_1":             "address",
	"verifier_search_pruning.o/state_equality_check_way_2":             "address",
	"verifier_unpriv.o/unpriv_return_pointer":                          "address",
}

// runCount is what became of the programs of the corpora on the engines.
type runCount struct{ equal, vary, refused, none int }

// TestCorpusEngines runs the programs of -corpus (SKEP_CORPUS) that can run on the interpreter and as compiled code: result, packet and maps
// must be equal, unless the program asks for time or random numbers, or two runs of the interpreter differ.
func TestCorpusEngines(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if err := native.Supported(); err != nil {
		t.Skip(err)
	}
	var c runCount
	for _, dir := range filepath.SplitList(*corpusDir) {
		for _, file := range corpusFiles(t, dir) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			o, err := object.Load(f, object.Options{})
			f.Close()
			if err != nil {
				continue // TestCorpus counts them
			}
			for _, name := range o.Programs() {
				if p, err := program.FromSpec(o.Spec, name, program.Options{}); err == nil {
					c.program(t, filepath.Base(file)+"/"+name, p)
				}
			}
		}
	}
	t.Logf("%d programs with equal results, %d whose runs differ, %d refused, %d cannot run", c.equal, c.vary, c.refused, c.none)
	if c.equal == 0 {
		t.Error("nothing was compared")
	}
}

// varies reports whether a program asks for time or random numbers. Two runs of one that does can be equal by chance.
func varies(p *program.Program) bool {
	return slices.ContainsFunc(p.Insns, func(in isa.Insn) bool {
		if !in.IsHelperCall() {
			return false
		}
		switch strings.TrimPrefix(isa.HelperName(in.Imm), "bpf_") {
		case "get_prandom_u32", "ktime_get_ns", "ktime_get_boot_ns", "ktime_get_coarse_ns", "ktime_get_tai_ns", "jiffies64":
			return true
		}
		return false
	})
}

func (c *runCount) program(t *testing.T, label string, p *program.Program) {
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: recordLimit})
	if err != nil {
		c.refused++
		return
	}
	for _, packet := range testPackets()[:4] {
		first, err := runOnce(p, res, packet, interpreted)
		if err != nil {
			c.none++
			return
		}
		again, err := runOnce(p, res, packet, interpreted)
		if err != nil {
			t.Errorf("%s: the second time: %v", label, err)
			return
		}
		if varies(p) || Diff(first, again, false) != "" || unspecified[label] != "" {
			c.vary++
			return
		}
		compiled, err := runOnce(p, res, packet, machineCode)
		if err != nil {
			t.Errorf("%s: compiled: %v", label, err)
			return
		}
		if d := Diff(first, compiled, false); d != "" {
			t.Errorf("%s: interpreter and compiled code: %s", label, d)
			return
		}
	}
	c.equal++
}

func interpreted(p *program.Program, res *verifier.Result, env *lower.Env) (rt.Executable, error) {
	code, err := lower.Lower(p, res, env)
	if err != nil {
		return nil, err
	}
	return interp.New(code, interp.Options{})
}

func machineCode(p *program.Program, res *verifier.Result, env *lower.Env) (rt.Executable, error) {
	code, err := lower.Lower(p, res, env)
	if err != nil {
		return nil, err
	}
	exes, err := native.Load(code)
	if err != nil {
		return nil, err
	}
	return exes[0], nil
}

// runOnce runs a program in a world of its own.
func runOnce(p *program.Program, res *verifier.Result, packet []byte,
	load func(*program.Program, *verifier.Result, *lower.Env) (rt.Executable, error)) (out Outcome, err error) {
	w, err := NewWorldFor(p)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	exe, err := load(p, res, w.Env())
	if err != nil {
		return Outcome{}, fmt.Errorf("load: %w", err)
	}
	defer func() { err = errors.Join(err, exe.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return w.Run(ctx, exe, p.Type, packet)
}
