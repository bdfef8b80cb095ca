package verifier

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
)

// This file is all that depends on the kernel whose verdict is asked for: what each target lacks, and what it says in other words. The
// other files ask has, and know no version.
//
// The theorem: what is accepted is proven, whatever the target. A row takes something away, forgets what could be known (a pointer
// becomes a number, a range is lost), or changes words; none permits an access. What 6.12 got wrong is not repeated. Only what is
// certain is here, read off the source of 6.12.

// Target is the kernel whose verdict is asked for.
type Target uint8

// The targets.
const (
	// TargetNewest is 6.18, and what is known to have come after it: stack arguments, and the rules of the running kernel where tests
	// are made (docs/targets.md).
	TargetNewest Target = iota
	// Target618 is 6.18 alone: no instruction may name r11.
	Target618
	// Target612 is 6.12.
	Target612
)

var targetNames = []string{"newest", "6.18", "6.12"}

// String returns the name that ParseTarget reads.
func (t Target) String() string {
	if int(t) < len(targetNames) {
		return targetNames[t]
	}
	return fmt.Sprintf("target %d", uint8(t))
}

// ParseTarget reads the name of a target: newest, 6.18, 6.12.
func ParseTarget(name string) (Target, error) {
	if i := slices.Index(targetNames, name); i >= 0 {
		return Target(i), nil
	}
	return 0, fmt.Errorf("no target %q: there are %s", name, strings.Join(targetNames, ", "))
}

// feature is something that not every target has.
type feature uint8

const (
	stackArguments    feature = iota
	untrustedWalks            // a pointer of a structure is untrusted unless the structure says more of it
	trustedByDefault          // the kernel's functions take valid pointers only, but for those with KF_RCU (is_kfunc_trusted_args)
	equalIfKnown              // a pointer equal to one that decides a comparison with zero is not NULL; XDP sockets decide it, the context does not
	untrustedSums             // a number plus an address of any memory is such an address
	atomicTypesFirst          // a load_acquire from what has no atomics is refused for that before its bounds
	nothingAtFrame            // r10 itself is no place for an iterator or a flag
	extensionByHalf           // a sign extension goes by the range of the low half
	pointerOffsets            // how far a pointer moved by what is not known is said as what is known
	tracepointErrors          // arguments of tracepoints that are not what they seem, found after 6.18
	sharedKprobeStack         // kprobes by perf event have no stack of their own
	oneObject                 // a call that goes by an object's fields gets objects of one type
	perCPUPerfmon             // per_cpu_ptr, this_cpu_ptr need CAP_PERFMON
	orderedAtomics            // load_acquire, store_release
	constantKeys              // a lookup in an array at a known index always finds an element (get_constant_map_key)
	barriers                  // what only speculation reaches is made safe by a barrier, not refused (error_recoverable_with_nospec)
	untrustedMemory           // addresses in structures of the kernel can be read through, bpf_rdonly_cast to void; parameters tagged arg:untrusted
	privateStacks             // some program types get a stack of their own (bpf_enable_priv_stack)
	timedMayGoto              // may_goto looks at the clock: 16 bytes of stack instead of 8
	liveTable                 // the log of level 2 begins with the live registers of each instruction, and has no marks behind registers
	negatedRanges             // the range of -r is known if that of r is
	liveLinks                 // copies of a number in registers that nobody reads any more are not linked (collect_linked_regs)
	helperDirection           // messages say whether a helper reads the stack or writes it
)

// oldest is the oldest target that has each feature.
var oldest = [...]Target{
	stackArguments: TargetNewest, untrustedWalks: TargetNewest, trustedByDefault: TargetNewest,
	equalIfKnown: TargetNewest, untrustedSums: TargetNewest, atomicTypesFirst: TargetNewest, nothingAtFrame: TargetNewest,
	extensionByHalf: TargetNewest, tracepointErrors: TargetNewest, sharedKprobeStack: TargetNewest, perCPUPerfmon: TargetNewest, pointerOffsets: TargetNewest, oneObject: TargetNewest,
	orderedAtomics: Target618, constantKeys: Target618, barriers: Target618, untrustedMemory: Target618,
	negatedRanges: Target618, liveLinks: Target618, privateStacks: Target618, timedMayGoto: Target618, liveTable: Target618, helperDirection: Target618,
}

// has reports whether the target has a feature.
func (e *env) has(f feature) bool { return e.opt.Target <= oldest[f] }

// kfuncsAfter612 are the kernel's functions of 6.18 that 6.12 has not.
var kfuncsAfter612 = strings.Fields(`
	__bpf_trap bpf_arena_reserve_pages bpf_cgroup_read_xattr bpf_copy_from_user_dynptr bpf_copy_from_user_str_dynptr
	bpf_copy_from_user_task_dynptr bpf_copy_from_user_task_str bpf_copy_from_user_task_str_dynptr bpf_dynptr_copy bpf_dynptr_memset
	bpf_get_kmem_cache bpf_iter_dmabuf_destroy bpf_iter_dmabuf_new bpf_iter_dmabuf_next bpf_iter_kmem_cache_destroy
	bpf_iter_kmem_cache_new bpf_iter_kmem_cache_next bpf_local_irq_restore bpf_local_irq_save bpf_probe_read_kernel_dynptr
	bpf_probe_read_kernel_str_dynptr bpf_probe_read_user_dynptr bpf_probe_read_user_str_dynptr bpf_res_spin_lock
	bpf_res_spin_lock_irqsave bpf_res_spin_unlock bpf_res_spin_unlock_irqrestore bpf_strcasecmp bpf_strchr bpf_strchrnul bpf_strcmp
	bpf_strcspn bpf_stream_vprintk_impl bpf_strlen bpf_strnchr bpf_strnlen bpf_strnstr bpf_strrchr bpf_strspn bpf_strstr
	bpf_task_work_schedule_resume_impl bpf_task_work_schedule_signal_impl bpf_xdp_pull_data bpf_list_back bpf_list_front
	bpf_rbtree_left bpf_rbtree_right bpf_rbtree_root bpf_send_signal_task bpf_task_from_vpid bpf_dynptr_from_skb_meta
	bpf_cpumask_populate bpf_remove_dentry_xattr bpf_set_dentry_xattr css_rstat_flush css_rstat_updated
	bpf_sock_ops_enable_tx_tstamp`)

// findKfunc finds a function of the target's kernel, nil if it has none of that name.
func (e *env) findKfunc(name string) *kernelkfunc.Kfunc {
	if e.opt.Target >= Target612 && slices.Contains(kfuncsAfter612, name) {
		return nil
	}
	return kernelkfunc.Find(name)
}

var (
	// tracing612 are the types whose helpers come from bpf_tracing_func_proto.
	tracing612 = []ebpf.ProgramType{ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable, ebpf.Tracing,
		ebpf.LSM, ebpf.Syscall}
	// current612 are those whose helpers come from cgroup_current_func_proto.
	current612 = []ebpf.ProgramType{ebpf.CGroupDevice, ebpf.CGroupSysctl, ebpf.CGroupSockopt, ebpf.CGroupSock, ebpf.CGroupSockAddr}
)

// helpers612 are the program types that have a helper in 6.12, of those helpers that all types have in 6.18 (bpf_base_func_proto).
var helpers612 = map[string][]ebpf.ProgramType{
	"copy_from_user": tracing612, "get_branch_snapshot": tracing612, "perf_event_read": tracing612, "perf_event_read_value": tracing612,
	"find_vma": tracing612, "send_signal": tracing612, "send_signal_thread": tracing612, "get_task_stack": tracing612,
	"copy_from_user_task": tracing612, "task_storage_get": tracing612, "task_storage_delete": tracing612,
	"get_current_comm": slices.Concat(tracing612, current612), "current_task_under_cgroup": slices.Concat(tracing612, current612),
	"get_cgroup_classid": slices.Concat(current612, []ebpf.ProgramType{ebpf.SchedCLS, ebpf.SchedACT, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit,
		ebpf.LWTSeg6Local}),
}

// targetLacksHelper reports whether programs of this type do not have a helper in the target's kernel.
func (e *env) targetLacksHelper(name string) bool {
	if e.opt.Target < Target612 {
		return false
	}
	types, limited := helpers612[name]
	return limited && !slices.Contains(types, e.prog.Type)
}

// ordersMemory reports whether an instruction is a load_acquire or store_release.
func ordersMemory(in isa.Insn) bool {
	k := in.Info().Kind
	return k == isa.KindLoadAcquire || k == isa.KindStoreRelease
}

// narrowOrdered reports whether an instruction is one of a width that atomics had not before there were load_acquire and
// store_release: then its opcode is not known at all.
func (e *env) narrowOrdered(in isa.Insn) bool {
	return in.Class() == isa.ClassSTX && in.Mode() == isa.ModeATOMIC && in.Size() != isa.SizeW && in.Size() != isa.SizeDW && !e.has(orderedAtomics)
}

// wording is a message, or a part of one, that changed.
type wording struct {
	since Target // the oldest target with the newer words
	// said finds the newer words in what this verifier says, and older replaces them; nil where the old words need more than the new
	// text (a feature above stands for them). Nothing is said if nothing is left.
	said  *regexp.Regexp
	older string
	// read finds the older words in what a test expects, and newer are what may stand for them.
	read  *regexp.Regexp
	newer []string
}

// wordings is what the kernel merely says otherwise, never what it decides otherwise.
var wordings = []wording{
	// R1_w=, fp-8_rw=: marks of liveness (liveTable)
	{since: Target618, read: regexp.MustCompile(`\b(R\d+|fp-\d+)_(?:w|r|rw)=`), newer: []string{"${1}="}},
	// the direction of a helper's access, with the preposition that goes with it (helperDirection)
	{since: Target618, read: regexp.MustCompile(`(invalid(?: unbounded)?(?: variable-offset)?) indirect access to stack`),
		newer: []string{"${1} read from stack", "${1} write to stack"}},
	{since: Target618, read: regexp.MustCompile(`invalid indirect read from stack`), newer: []string{"invalid read from stack"}},
	// a lock, a preemption count or a reference is the same reason (check_resource_leak)
	{since: Target618,
		said: regexp.MustCompile(`^BPF_LD_\[ABS\|IND\] would lead to reference leak$`), older: "BPF_LD_[ABS|IND] cannot be mixed with socket references",
		read: regexp.MustCompile(`BPF_LD_\[ABS\|IND\] cannot be mixed with socket references`), newer: []string{"BPF_LD_[ABS|IND] would lead to reference leak"}},
	// types that are no structures cannot be cast to (untrustedMemory)
	{since: Target618, older: "kfunc bpf_rdonly_cast type ID argument must be of a struct",
		said: regexp.MustCompile(`^kfunc bpf_rdonly_cast type ID argument must be of a struct or void$|^Unknown type ID -?\d+ passed to kfunc bpf_rdonly_cast$`)},
	{since: Target618, said: regexp.MustCompile(`^BPF_EXIT instruction in main prog would lead to reference leak$`)},
	{since: Target618,
		said: regexp.MustCompile(`^BPF_EXIT instruction in main prog cannot be used inside bpf_(spin|rcu_read)_lock-ed region$`), older: "bpf_${1}_unlock is missing",
		read:  regexp.MustCompile(`^(?:bpf_(?:spin|rcu_read)_)?unlock is missing$`),
		newer: []string{"BPF_EXIT instruction in main prog cannot be used inside"}},
}

// inTargetWords is a message as the target says it, "" if it says nothing.
func (t Target) inTargetWords(msg string) string {
	for i := range wordings {
		if w := &wordings[i]; t > w.since && w.said != nil && w.said.MatchString(msg) {
			return w.said.ReplaceAllString(msg, w.older)
		}
	}
	return msg
}

// NewerWords returns the texts that a message of an older kernel may have become; nil if none of its words changed.
func NewerWords(text string) []string {
	texts := []string{text}
	for _, w := range wordings {
		if w.read == nil {
			continue
		}
		var next []string
		for _, t := range texts {
			if !w.read.MatchString(t) {
				next = append(next, t)
				continue
			}
			for _, newer := range w.newer {
				next = append(next, w.read.ReplaceAllString(t, newer))
			}
		}
		texts = next
	}
	if len(texts) == 1 && texts[0] == text {
		return nil
	}
	return texts
}
