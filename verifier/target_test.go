package verifier_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/verifier"
)

// What a program gets from each target: "" for accepted.
type targetCase struct {
	name, src            string
	newest, v618, v612   string
	without              verifier.Caps
	needsTypes, wholeLog bool
}

const lookupAt1 = ".type tc\n.map m array 4 8 2\n*(u32 *)(r10 - 8) = 1\nr2 = r10\nr2 += -8\nr1 = map[m] ll\ncall bpf_map_lookup_elem\nr0 = *(u64 *)(r0 + 0)\nr0 = 0\nexit\n"

const reserveRing = ".type tc\n.map r ringbuf 0 0 4096\nr6 = r1\nr1 = map[r] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 == 0 goto out\n"

const lockFirst = ".type tc\n.license GPL\n.struct bpf_spin_lock { u32 val; }\n.struct value { int cnt; struct bpf_spin_lock l; }\n.map m array 4 8 1 key=int value=value\n" +
	"r6 = r1\n*(u32 *)(r10 - 4) = 0\nr2 = r10\nr2 += -4\nr1 = map[m] ll\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\nr1 = r0\nr1 += 4\ncall bpf_spin_lock\nout:\nr0 = 0\nexit\n"

const castToAny = ".license GPL\n.type tc\n.kfunc void *bpf_rdonly_cast(void *p, u32 id) unresolved\nr2 = 0\ncall bpf_rdonly_cast\n"

const dynptrWanted = "arg#0 expected pointer to stack or const struct bpf_dynptr"

var targetCases = []targetCase{
	{name: "stack arguments", src: "r1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n*(u64 *)(r11 - 8) = 1\ncall f\nexit\n" +
		".func long f(long a, long b, long c, long d, long e, long f)\nr0 = *(u64 *)(r11 + 8)\nexit\n", v618: "R11 is invalid", v612: "R11 is invalid"},
	{name: "load_acquire", src: "*(u64 *)(r10 - 8) = 1\nr0 = load_acquire((u64 *)(r10 - 8))\nexit\n", v612: "BPF_ATOMIC uses invalid atomic opcode 100"},
	{name: "store_release", src: "r1 = 0\nstore_release((u32 *)(r10 - 8), r1)\nr0 = 0\nexit\n", v612: "BPF_ATOMIC uses invalid atomic opcode 110"},
	{name: "load_acquire of a byte", src: "*(u64 *)(r10 - 8) = 1\nr0 = load_acquire((u8 *)(r10 - 8))\nexit\n", v612: "unknown opcode d3"},
	{name: "an atomic both have", src: "*(u64 *)(r10 - 8) = 1\nr1 = 1\nlock *(u64 *)(r10 - 8) += r1\nr0 = 0\nexit\n"},
	{name: "lookup at a known index", src: lookupAt1, v612: "R0 invalid mem access 'map_value_or_null'"},
	{name: "lookup that is compared", src: strings.Replace(lookupAt1, "r0 = *(u64 *)(r0 + 0)\n", "if r0 == 0 goto out\nr0 = *(u64 *)(r0 + 0)\nout:\n", 1)},
	{name: "range of a negated number", src: "r0 = 3\nr0 = -r0\nif r0 s< 0 goto out\nr0 = *(u64 *)(r0 + 0)\nout: r0 = 0\nexit\n", v612: "R0 invalid mem access 'scalar'"},
	{name: "helper of tracing", src: ".type tc\ncall bpf_get_current_task_btf\nr1 = 9\ncall bpf_send_signal\nr0 = 0\nexit\n", needsTypes: true,
		v612: "program of this type cannot use helper bpf_send_signal#109"},
	{name: "helper of tracing in a kprobe", src: ".type kprobe\nr1 = 9\ncall bpf_send_signal\nr0 = 0\nexit\n"},
	{name: "kfunc", src: ".license GPL\n.type tc\n.kfunc void bpf_local_irq_save(long *f) unresolved\nr1 = r10\nr1 += -8\ncall bpf_local_irq_save\nr0 = 0\nexit\n", needsTypes: true,
		newest: "bpf_local_irq_save-ed region", v618: "bpf_local_irq_save-ed region", v612: "calling kernel function bpf_local_irq_save is not allowed"},
	{name: "cast to void", src: ".license GPL\n.type tc\n.kfunc void *bpf_rdonly_cast(void *p, u32 id) unresolved\nr2 = 0\ncall bpf_rdonly_cast\nr0 = 0\nexit\n", needsTypes: true,
		v612: "kfunc bpf_rdonly_cast type ID argument must be of a struct"},
	{name: "cast to no type", src: ".license GPL\n.type tc\n.kfunc void *bpf_rdonly_cast(void *p, u32 id) unresolved\nr2 = 1000000000\ncall bpf_rdonly_cast\nr0 = 0\nexit\n", needsTypes: true, newest: "Unknown type ID 1000000000 passed",
		v618: "Unknown type ID 1000000000 passed", v612: "kfunc bpf_rdonly_cast type ID argument must be of a struct"},
	{name: "reference at the end", src: reserveRing + "out:\nr0 = 0\nexit\n", wholeLog: true,
		newest: "BPF_EXIT instruction in main prog would lead to reference leak", v618: "BPF_EXIT instruction in main prog would lead to reference leak",
		v612: "alloc_insn=5\nprocessed "},
	{name: "reference and a legacy load", src: strings.Replace(reserveRing, ".type tc", ".type socket", 1) + "r0 = *(u8 *)skb[0]\nout:\nr0 = 0\nexit\n",
		newest: "BPF_LD_[ABS|IND] would lead to reference leak", v618: "BPF_LD_[ABS|IND] would lead to reference leak",
		v612: "BPF_LD_[ABS|IND] cannot be mixed with socket references"},
	{name: "lock at the end", src: lockFirst, newest: "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
		v618: "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region", v612: "bpf_spin_unlock is missing"},
	{name: "helper outside of the stack", src: ".type tc\nr2 = 0\nr3 = r10\nr3 += -4\nr4 = 8\ncall bpf_skb_load_bytes\nr0 = 0\nexit\n",
		newest: "invalid write to stack R3 off=-4 size=8", v618: "invalid write to stack R3 off=-4 size=8", v612: "invalid indirect access to stack R3 off=-4 size=8"},
	{name: "store outside of the stack", src: "*(u64 *)(r10 + 8) = 0\nr0 = 0\nexit\n",
		newest: "invalid write to stack R10 off=8 size=8", v618: "invalid write to stack R10 off=8 size=8", v612: "invalid write to stack R10 off=8 size=8"},
	{name: "two stacks of a raw tracepoint", src: ".type raw_tp\n*(u64 *)(r10 - 400) = 0\ncall f\nexit\nf:\n*(u64 *)(r10 - 400) = 0\nr0 = 0\nexit\n",
		v612: "combined stack size of 2 calls is 800. Too large"},
	{name: "NULL for a function of the kernel", src: ".license GPL\n.type tc\n.kfunc u32 bpf_dynptr_size(struct bpf_dynptr *p)\nr1 = 0\ncall bpf_dynptr_size\nr0 = 0\nexit\n",
		newest: "Possibly NULL pointer passed to trusted arg0", v618: dynptrWanted, v612: dynptrWanted},
	{name: "number plus an address of any memory", src: castToAny + "r1 = 8\nr1 += r0\nr0 = *(u64 *)(r1 + 0)\nr0 = 0\nexit\n", needsTypes: true,
		v618: "R1 invalid mem access 'scalar'", v612: "kfunc bpf_rdonly_cast type ID argument must be of a struct"},
	{name: "through any memory and through the stack", src: castToAny + "r6 = r0\n*(u64 *)(r10 - 8) = 0\ncall get_prandom_u32\nif r0 > 5 goto l\nr6 = r10\nr6 += -8\n" +
		"l: r0 = *(u64 *)(r6 + 0)\nr0 = 0\nexit\n", needsTypes: true,
		newest: "same insn cannot be used with different pointers", v612: "kfunc bpf_rdonly_cast type ID argument must be of a struct"},
	{name: "iterator at the frame itself", src: ".license GPL\n.type tc\n.kfunc int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end)\nr1 = r10\nr2 = 0\nr3 = 1\ncall bpf_iter_num_new\nr0 = 0\nexit\n",
		newest: "expected uninitialized iter_num as arg #0", v618: "invalid write to stack R1 off=0 size=8", v612: "invalid write to stack R1 off=0 size=8"},
	{name: "extension of what needs none", src: "call get_prandom_u32\nr1 = (s8)r0\nr2 = (s16)r1\nif r2 s< 200 goto out\nr0 = *(u64 *)(r0 + 0)\nout: r0 = 0\nexit\n",
		v618: "R0 invalid mem access 'scalar'", v612: "R0 invalid mem access 'scalar'"},
	{name: "two stacks of a kprobe", src: ".type kprobe\n*(u64 *)(r10 - 400) = 0\ncall f\nexit\nf:\n*(u64 *)(r10 - 400) = 0\nr0 = 0\nexit\n",
		newest: "combined stack size of 2 calls is 800. Too large", v612: "combined stack size of 2 calls is 800. Too large"},
	{name: "one processor's copy without CAP_PERFMON", src: ".type socket\ncall bpf_this_cpu_ptr\nr0 = 0\nexit\n", without: verifier.CapPerfmon,
		newest: "program of this type cannot use helper bpf_this_cpu_ptr#154", v618: "R1 type=ctx expected=percpu_ptr_", v612: "R1 type=ctx expected=percpu_ptr_"},
	{name: "moved too far", src: ".map m array 4 8 1\nr3 = *(u32 *)(r1 + 0)\nr3 &= 0xffff\nr3 += 0x1ffffff0\nr2 = map[m][0] ll\nr2 += r3\nr2 += r3\nr0 = 0\nexit\n",
		newest: "map_value pointer offset 1073741792 is not allowed", v618: "value 1073741792 makes map_value pointer be out of bounds",
		v612: "value 1073741792 makes map_value pointer be out of bounds"},
	{name: "load_acquire from the packet", src: ".type tc\nr2 = *(u32 *)(r1 + 76)\nr3 = *(u32 *)(r1 + 80)\nr4 = r2\nr4 += 8\nif r4 > r3 goto l\nr0 = load_acquire((u64 *)(r2 + 0))\nl: r0 = 0\nexit\n",
		newest: "BPF_ATOMIC loads from R2 pkt is not allowed", v618: "misaligned packet access off 2+0+0+0 size 8", v612: "BPF_ATOMIC uses invalid atomic opcode 100"},
	{name: "equal to the context", src: ".type SockOps\nr6 = *(u64 *)(r1 + 184)\nif r6 != r1 goto out\nr0 = *(u32 *)(r6 + 0)\nout: r0 = 0\nexit\n",
		newest: "R6 invalid mem access 'sock_or_null'"},
	{name: "only speculation loads", src: ".type socket\nr0 = 0\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 + 0)\nout: r0 = 0\nexit\n", without: verifier.AllCaps,
		v612: "R0 invalid mem access 'scalar'"},
}

// TestTargetRules: what each row of the table takes away, and that targets which have it do not.
func TestTargetRules(t *testing.T) {
	for _, c := range targetCases {
		t.Run(c.name, func(t *testing.T) {
			if c.needsTypes {
				needKernelTypes(t, &textCase{file: "btf_"})
			}
			for target, want := range map[verifier.Target]string{verifier.TargetNewest: c.newest, verifier.Target618: c.v618, verifier.Target612: c.v612} {
				opt := options(verifier.LogBranch)
				opt.Target, opt.Without = target, c.without
				if got := saidBy(t, c.src, opt, c.wholeLog); want == "" && got != "" || !strings.Contains(got, want) {
					t.Errorf("%s: %q, want %q", target, got, want)
				}
			}
		})
	}
}

// saidBy is what a program is refused with: the message, or the log.
func saidBy(t *testing.T, src string, opt verifier.Options, wholeLog bool) string {
	_, err := verifier.Verify(source(t, src), opt)
	var ve *verifier.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &ve):
		t.Fatal(err)
	case wholeLog:
		return ve.Log
	}
	return ve.Message
}

// TestTargetLogs: marks of liveness in place of the table, and the stack of may_goto without a clock.
func TestTargetLogs(t *testing.T) {
	src := "*(u64 *)(r10 - 8) = 1\nr1 = *(u64 *)(r10 - 8)\nl: may_goto done\ngoto l\ndone: r0 = 0\nexit\n"
	for target, want := range map[verifier.Target][]string{
		verifier.TargetNewest: {"Live regs before insn:", "fp-8=1", "R0=0", "stack depth 24"},
		verifier.Target612:    {"fp-8_w=1", "R0_w=0", "stack depth 16"},
	} {
		opt := options(verifier.LogAll | verifier.LogStats)
		opt.Target = target
		res, err := verifier.Verify(source(t, src), opt)
		if err != nil {
			t.Fatal(err)
		}
		inOrder(t, res.Log, want)
		if live := strings.Contains(res.Log, "Live regs"); live != (target == verifier.TargetNewest) {
			t.Errorf("%s: table of live registers: %t", target, live)
		}
	}
}

// TestTargetLinks: copies in registers that nobody reads any more are traced by 6.12 only.
func TestTargetLinks(t *testing.T) {
	src := "call bpf_ktime_get_ns\nr0 &= 255\nr1 = r0\nr2 = r0\nif r1 > 7 goto l\nl: r3 = r10\nr3 += r0\nr0 = 0\nexit\n"
	for target, want := range map[verifier.Target]string{
		verifier.TargetNewest: "regs=r0,r1 stack= before 2:", verifier.Target612: "regs=r0,r1,r2 stack= before 3:",
	} {
		opt := options(verifier.LogAll)
		opt.Target = target
		res, err := verifier.Verify(source(t, src), opt)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(res.Log, want) {
			t.Errorf("%s: no %q in\n%s", target, want, res.Log)
		}
	}
}

// TestTargetTags: arg:untrusted is no tag of 6.12's.
func TestTargetTags(t *testing.T) {
	p := source(t, "r1 = 5\ncall f\nr0 = 0\nexit\n.func int f(int *p) global\nr0 = *(u32 *)(r1 + 400)\nexit\n")
	p.Funcs[1].Type.ParamTags = [][]string{{"arg:untrusted"}}
	opt := options(0)
	rejected(t, p, opt, "", "")
	opt.Target = verifier.Target612
	rejected(t, p, opt, verifier.CodeBTF, "arg#0 has unsupported set of tags")
}

// TestTargetVerdicts: the log's level changes no verdict and no figure of an older target, and what an older target accepts and a newer does
// not is only what the table says: a number in place of an address, or what 6.18 accepts as well.
func TestTargetVerdicts(t *testing.T) {
	accepted, refused := 0, 0
	for _, c := range readCases(t) {
		p := assemble(t, &c)
		verdicts := map[verifier.Target]error{}
		for _, target := range []verifier.Target{verifier.TargetNewest, verifier.Target618, verifier.Target612} {
			quiet, loud := options(0), options(verifier.LogAll|verifier.LogStats)
			quiet.Target, loud.Target = target, target
			res, err := verifier.Verify(p, quiet)
			again, errAgain := verifier.Verify(p, loud)
			if fmt.Sprint(err) != fmt.Sprint(errAgain) || err == nil && (res.Stats.Processed != again.Stats.Processed || res.Stats.TotalStates != again.Stats.TotalStates) {
				t.Errorf("%s/%s, %s: the log changes what is found: %v, %v", c.file, c.name, target, err, errAgain)
			}
			verdicts[target] = err
		}
		if verdicts[verifier.Target612] == nil {
			accepted++
			if err := verdicts[verifier.TargetNewest]; err != nil && verdicts[verifier.Target618] != nil && !strings.Contains(err.Error(), "rdonly_untrusted_mem") {
				t.Errorf("%s/%s: accepted for 6.12 only: %v", c.file, c.name, err)
			}
		} else {
			refused++
		}
	}
	if accepted < 400 || refused < 400 {
		t.Errorf("%d accepted, %d refused: too few to tell", accepted, refused)
	}
}

// TestTargetTables: the names in the tables are those of functions and helpers that 6.18 has.
func TestTargetTables(t *testing.T) {
	known := map[string]bool{}
	for id := int32(1); isa.HelperName(id) != "unknown" && id < 500; id++ {
		if p := helpers.Proto(id); p != nil {
			known[p.Name] = true
		}
	}
	for name := range verifier.Helpers612() {
		if !known[name] {
			t.Errorf("no helper %s", name)
		}
	}
	for _, name := range verifier.KfuncsAfter612() {
		if kernelkfunc.Find(name) == nil {
			t.Errorf("no kfunc %s", name)
		}
	}
}

// TestParseTarget: each target's name is read as that target.
func TestParseTarget(t *testing.T) {
	for _, want := range []verifier.Target{verifier.TargetNewest, verifier.Target618, verifier.Target612} {
		if got, err := verifier.ParseTarget(want.String()); err != nil || got != want {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	if _, err := verifier.ParseTarget("6.11"); err == nil || !strings.Contains(err.Error(), "newest, 6.18, 6.12") {
		t.Errorf("6.11: %v", err)
	}
}
