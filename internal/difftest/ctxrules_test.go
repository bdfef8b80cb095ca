package difftest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file compares with the running kernel what a program's type decides beside its context: which parameters are the
// context, stacks, sleeping.

// param is a pointer's target as a parameter of a global function, with its tags.
type param struct {
	name   string
	target btf.Type
	tags   []string
}

// params are targets that contexts are known by, and some that look like them.
func params() []param {
	var out []param
	u64 := &btf.Int{Name: "unsigned long long", Size: 8}
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	strct := func(name string) *btf.Struct {
		return &btf.Struct{Name: name, Size: 8, Members: []btf.Member{{Name: "a", Type: u64}}}
	}
	regs := &btf.Typedef{Name: "bpf_user_pt_regs_t", Type: strct("any_regs")}
	targets := map[string]btf.Type{
		"void": &btf.Void{}, "u64": u64, "u32": u32, "fwd": &btf.Fwd{Name: "__sk_buff", Kind: btf.FwdStruct},
		"anonymous": strct(""), "regs": regs, "const regs": &btf.Const{Type: regs}, "typedef of regs": &btf.Typedef{Name: "mine", Type: regs},
		"typedef": &btf.Typedef{Name: "packet_t", Type: strct("__sk_buff")}, "const": &btf.Const{Type: strct("__sk_buff")},
		"union": &btf.Union{Name: "__sk_buff", Size: 8, Members: []btf.Member{{Name: "a", Type: u64}}},
	}
	for _, n := range []string{
		"__sk_buff", "sk_buff", "xdp_md", "xdp_buff", "bpf_sock", "bpf_sock_addr", "bpf_sock_ops", "bpf_sockopt", "bpf_sysctl",
		"bpf_cgroup_dev_ctx", "sk_msg_md", "bpf_sk_lookup", "sk_reuseport_md", "bpf_perf_event_data", "pt_regs", "user_pt_regs",
		"bpf_raw_tracepoint_args", "bpf_nf_ctx", "bpf_user_pt_regs_t", "other",
	} {
		targets["struct "+n] = strct(n)
	}
	for name, t := range targets {
		for _, tags := range [][]string{nil, {"arg:ctx"}, {"arg:nonnull"}, {"arg:ctx", "arg:nonnull"}} {
			out = append(out, param{name, t, tags})
		}
	}
	return out
}

// callWithCtx makes a program that passes its context to a global function with that parameter.
func callWithCtx(k ctxKind, pr param) *program.Program {
	p := k.program(
		isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoCall, Imm: 2}, insnOne, insnExit,
		insnOne, insnExit,
	)
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	fn := func(name string, l btf.FuncLinkage, target btf.Type, tags []string) *btf.Func {
		f := &btf.Func{Name: name, Linkage: l, Type: &btf.FuncProto{Return: long, Params: []btf.FuncParam{
			{Name: "p", Type: &btf.Pointer{Target: target}},
		}}}
		if tags != nil {
			f.ParamTags = [][]string{tags}
		}
		return f
	}
	p.Funcs = []program.Func{
		{Name: "ctx", End: 3, Type: fn("ctx", btf.GlobalFunc, &btf.Void{}, nil), Global: true},
		{Name: "f", Start: 3, End: 5, Type: fn("f", btf.GlobalFunc, pr.target, pr.tags), Global: true},
	}
	return p
}

// TestContextParameters compares by which types and tags a global function's parameter is the context, for every program
// type.
func TestContextParameters(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of parameters: ", err)
	}
	var report ctxReport
	for _, k := range ctxKinds() {
		for _, pr := range params() {
			report.compare(t, fmt.Sprintf("%v with %s *p %v", k, pr.name, pr.tags), callWithCtx(k, pr))
		}
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
}

// TestStacks compares how much stack two functions of a program may have.
func TestStacks(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of stacks: ", err)
	}
	var report ctxReport
	store := func(depth int16) isa.Insn {
		return isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Off: -depth}
	}
	for _, k := range ctxKinds() {
		for _, d := range [][2]int16{{256, 256}, {272, 256}, {512, 48}, {512, 64}, {48, 512}, {512, 512}} {
			p := k.program(store(d[0]), isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoCall, Imm: 2}, insnOne, insnExit,
				store(d[1]), insnOne, insnExit)
			p.Funcs = []program.Func{{Name: "ctx", End: 4}, {Name: "f", Start: 4, End: 7}}
			report.compare(t, fmt.Sprintf("%v with %d and %d bytes", k, d[0], d[1]), p)
		}
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
}

// TestSleeping compares which types can be sleepable, and which of the maps known here sleepable programs can have.
func TestSleeping(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of sleepable programs: ", err)
	}
	var report ctxReport
	for _, k := range ctxKinds() {
		for _, flags := range []uint32{0, 1 << 4} {
			p := k.program(insnOne, insnExit)
			p.Flags = flags
			report.compare(t, fmt.Sprintf("%v with flags %d", k, flags), p)
		}
	}
	for _, m := range []program.Map{
		{Type: ebpf.Array, ValueSize: 8}, {Type: ebpf.Hash, ValueSize: 8}, {Type: ebpf.PerCPUArray, ValueSize: 8},
		{Type: ebpf.PerCPUHash, ValueSize: 8}, {Type: ebpf.LRUHash, ValueSize: 8}, {Type: ebpf.LRUCPUHash, ValueSize: 8},
		{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, Flags: 1}, {Type: ebpf.ProgramArray, ValueSize: 4}, {Type: ebpf.DevMap, ValueSize: 4},
		{Type: ebpf.DevMapHash, ValueSize: 4}, {Type: ebpf.CPUMap, ValueSize: 4}, {Type: ebpf.XSKMap, ValueSize: 4},
	} {
		m.Name, m.MaxEntries = "m", 1
		if m.KeySize == 0 {
			m.KeySize = 4
		}
		p := ctxKind{ebpf.Kprobe, 0}.program(isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: isa.R1, Src: isa.PseudoMapFD},
			isa.Insn{}, insnOne, insnExit)
		p.Flags, p.Maps = 1<<4, []program.Map{m}
		report.compare(t, fmt.Sprintf("sleepable with a map of type %v", m.Type), p)
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
}

// TestVerdictsOfTypes has both verifiers judge random programs that were made for one program type as programs of another.
func TestVerdictsOfTypes(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of verdicts: ", err)
	}
	var report verdictReport
	kinds := ctxKinds()
	for i := range *verdictPrograms {
		seed := *verdictSeed + uint64(i)
		p := progen.New(seed, progen.ConfigFor(seed, 5))
		for n := range 4 {
			k := kinds[(4*i+n)%len(kinds)]
			p.Type, p.AttachType = k.typ, k.attach
			v, err := judge(p, 0, randomLimit)
			report.add(v, err)
			if err == nil && v.differs() && !strings.Contains(v.OurReason, "skep does not verify this yet") {
				t.Errorf("seed %d as %v: we %t (%s), the kernel %t (%s)", seed, k, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
			}
		}
	}
	t.Log(report.String())
	for k, n := range report.wording {
		t.Logf("%5d %s", n, k)
	}
}

// packetProgram makes a program that proves 16 bytes of the packet, has their address in r7, and goes on with body; nil if
// the kind has no packet.
func packetProgram(k ctxKind, body ...isa.Insn) *program.Program {
	var start, end *isa.Insn
	for _, a := range k.accesses() {
		in := a.insn()
		switch x := k.context().Access(a.off, a.size, a.op); {
		case !x.OK || a.op != progtype.Read:
		case x.Field == progtype.FieldPacket:
			in.Dst, start = isa.R7, &in
		case x.Field == progtype.FieldPacketEnd:
			in.Dst, end = isa.R8, &in
		}
	}
	if start == nil || end == nil {
		return nil
	}
	insns := []isa.Insn{
		*start, *end, {Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: isa.R9, Src: isa.R7},
		{Op: isa.ClassALU64 | isa.AluADD, Dst: isa.R9, Imm: 16},
		{Op: isa.ClassJMP | isa.JmpJGT | isa.SrcX, Dst: isa.R9, Src: isa.R8, Off: int16(len(body))},
	}
	return k.program(append(append(insns, body...), insnOne, insnExit)...)
}

// TestPackets compares what each program type may do with its packet: store into it, and pass it to helpers that are made
// for it and to others, as memory that they read or write.
func TestPackets(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of packets: ", err)
	}
	mov := func(dst isa.Reg, imm int32) isa.Insn {
		return isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: dst, Imm: imm}
	}
	copyTo := func(dst, src isa.Reg) isa.Insn {
		return isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: dst, Src: src}
	}
	call := func(id int32) isa.Insn { return isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: id} }
	mapPtr := []isa.Insn{{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: isa.R1, Src: isa.PseudoMapFD}, {}}
	var report ctxReport
	for _, k := range ctxKinds() {
		for what, body := range map[string][]isa.Insn{
			"load":               {{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: isa.R2, Src: isa.R7, Off: 8}},
			"load beyond":        {{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: isa.R2, Src: isa.R7, Off: 9}},
			"store":              {{Op: isa.ClassST | isa.ModeMEM | isa.SizeW, Dst: isa.R7, Off: 4}},
			"lookup (pkt)":       append([]isa.Insn{copyTo(isa.R2, isa.R7)}, append(mapPtr, call(1))...),
			"get_current_comm":   {copyTo(isa.R1, isa.R7), mov(isa.R2, 16), call(16)},
			"trace_printk":       {copyTo(isa.R1, isa.R7), mov(isa.R2, 8), call(6)},
			"csum_diff (pkt)":    {mov(isa.R1, 0), mov(isa.R2, 0), copyTo(isa.R3, isa.R7), mov(isa.R4, 8), mov(isa.R5, 0), call(28)},
			"strtol reads":       {copyTo(isa.R1, isa.R7), mov(isa.R2, 8), mov(isa.R3, 0), copyTo(isa.R4, isa.R10), {Op: isa.ClassALU64 | isa.AluADD, Dst: isa.R4, Imm: -8}, call(105)},
			"skb_load_bytes":     {mov(isa.R2, 0), copyTo(isa.R3, isa.R7), mov(isa.R4, 8), call(26)},
			"update (pkt) value": append([]isa.Insn{copyTo(isa.R2, isa.R7), copyTo(isa.R3, isa.R7), mov(isa.R4, 0)}, append(mapPtr, call(2))...),
		} {
			p := packetProgram(k, body...)
			if p == nil {
				continue
			}
			p.Maps = []program.Map{{Name: "m", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1}}
			v, err := judge(p, 0, 0)
			report.add(t, fmt.Sprintf("%v: %s", k, what), disagree(p, v, err))
		}
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
	if report.programs < 100 {
		t.Error("hardly any type has a packet")
	}
}
