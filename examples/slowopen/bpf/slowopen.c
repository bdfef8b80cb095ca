// A tracing program: which tasks wait long for files to be opened. The probes at entry and return of a function meet by the task; what took
// long goes to user space in a ring buffer.
#include "skep_test.h"

enum { BPF_MAP_TYPE_RINGBUF = 27, TASK_COMM_LEN = 16 };

static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_get_current_comm)(void *buf, u32 size) = (void *)16;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;

// The registers of x86-64 that a system call's arguments and result are in.
struct pt_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u64);
	__type(value, u64);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

// What user space reads; slowopen_test.go has the same.
struct event {
	u32 pid, tid;
	u64 duration; // nanoseconds
	s64 result;
	u8 comm[TASK_COMM_LEN];
};

volatile const u64 threshold = 1000000; // nanoseconds

u64 lost; // events for which there was no room

SEC("kprobe/do_sys_openat2") int enter(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	bpf_map_update_elem(&starts, &task, &now, 0);
	return 0;
}

SEC("kretprobe/do_sys_openat2") int leave(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), *start = bpf_map_lookup_elem(&starts, &task), duration;
	struct event *e;

	if (!start)
		return 0; // it was under way when we came
	duration = bpf_ktime_get_ns() - *start;
	bpf_map_delete_elem(&starts, &task);
	if (duration < threshold)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	e->pid = task >> 32;
	e->tid = task;
	e->duration = duration;
	e->result = ctx->ax;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

LICENSE;
