package progtype

// This file has the contexts of tracing programs that hold no BTF types, and those of syscall and netfilter programs.

// Sizes of struct pt_regs and of bpf_user_pt_regs_t. On amd64 they are the same. arm64's kernel has more behind the
// registers that users see, and what has changed from version to version: that is left out.
const (
	amd64Regs = 21 * 8
	arm64Regs = 34 * 8
)

// traceSize is the size of the buffer for one event of a tracepoint (PERF_MAX_TRACE_SIZE).
const traceSize = 8192

// kprobes, uprobes and their multi and session forms see the registers (kprobe_prog_is_valid_access).
var (
	kprobeAMD64 = layout{name: "pt_regs", size: amd64Regs, rest: row{read: upTo8}, plain: true}
	kprobeARM64 = layout{name: "user_pt_regs", size: arm64Regs, rest: row{read: upTo8}, plain: true}
)

// Perf events have the registers and two numbers behind them (pe_prog_is_valid_access).
var (
	perfEventAMD64 = perfEvent(amd64Regs)
	perfEventARM64 = perfEvent(arm64Regs)
)

func perfEvent(regs int) layout {
	return layout{name: "bpf_perf_event_data", size: regs + 16, rows: []row{
		{off: 0, size: regs, read: 8},
		{off: regs, size: 8, read: upTo8},     // sample_period
		{off: regs + 8, size: 8, read: upTo8}, // addr
	}}
}

// tracepoint is the event's record; its head is the kernel's own (tp_prog_is_valid_access).
var tracepoint = layout{size: traceSize, rows: []row{{off: 0, size: 8}}, rest: row{read: upTo8}, plain: true}

// Raw tracepoints have their arguments as numbers (bpf_tracing_ctx_access). The first one of a writable tracepoint is the
// address of what may be written (raw_tp_writable_prog_is_valid_access).
var (
	rawTracepoint = layout{
		name: "bpf_raw_tracepoint_args", size: 8 * MaxTracepointArgs, rest: row{read: upTo8}, plain: true,
	}
	rawTracepointWritable = layout{
		name: "bpf_raw_tracepoint_args", size: 8 * MaxTracepointArgs, rest: row{read: upTo8}, plain: true,
		rows: []row{{off: 0, size: 8, read: 8, is: FieldTPBuffer, head: true}},
	}
)

// syscall is memory of the caller's (syscall_prog_is_valid_access).
var syscall = layout{size: MaxSyscallCtx, rest: row{read: upTo8, write: upTo8}, plain: true}

// netfilter is struct bpf_nf_ctx: pointers to structures of the kernel (nf_is_valid_access).
var netfilter = layout{name: "bpf_nf_ctx", size: 16, rows: []row{
	{off: 0, size: 8, read: 8, is: FieldHookState}, {off: 8, size: 8, read: 8, is: FieldSkBuff},
}, plain: true}
