// User ring buffers: records that come from outside, one after the other.
#include "skep_test.h"

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static long (*const bpf_dynptr_read)(void *to, u32 len, const struct bpf_dynptr *p, u32 off, u64 flags) = (void *)201;
static void *(*const bpf_dynptr_data)(const struct bpf_dynptr *p, u32 off, u32 len) = (void *)203;
static long (*const bpf_user_ringbuf_drain)(void *ring, void *fn, void *ctx, u64 flags) = (void *)209;
extern u32 bpf_dynptr_size(const struct bpf_dynptr *p) __weak __ksym;

struct {
	__uint(type, 31); // BPF_MAP_TYPE_USER_RINGBUF
	__uint(max_entries, 4096);
} user SEC(".maps");

struct {
	__uint(type, 27); // BPF_MAP_TYPE_RINGBUF
	__uint(max_entries, 65536);
} out SEC(".maps");

struct seen {
	u32 n, bytes, sum, first;
};

// Counts what there is.
static long count(const struct bpf_dynptr *p, struct seen *s)
{
	u32 word = 0;

	s->n++;
	s->bytes += bpf_dynptr_size(p);
	bpf_dynptr_read(&word, 4, p, 0, 0);
	s->sum = s->sum * 31 + word;
	u8 *first = bpf_dynptr_data(p, 0, 1);
	s->first = s->first * 3 + (first ? *first : 200);
	return 0;
}

SEC("tc") __success int user_count(struct __sk_buff *ctx)
{
	struct seen s = {};
	long n = bpf_user_ringbuf_drain(&user, count, &s, 0);

	return (n * 1000003 + s.n * 7 + s.bytes * 11 + s.sum + s.first * 13) & 0x7fffffff;
}

// Stops at the first record that begins with a number divisible by three.
static long until_three(const struct bpf_dynptr *p, struct seen *s)
{
	u8 b = 1;

	bpf_dynptr_read(&b, 1, p, 0, 0);
	s->n++;
	return b % 3 == 0;
}

SEC("tc") __success int user_stop(struct __sk_buff *ctx)
{
	struct seen s = {};
	long n = bpf_user_ringbuf_drain(&user, until_three, &s, 1 /* BPF_RB_NO_WAKEUP */);

	return n * 1000 + s.n;
}

// Sends what comes in out again, and finds the ring busy inside.
static long forward(const struct bpf_dynptr *p, struct seen *s)
{
	u8 buf[16] = {};

	bpf_dynptr_read(buf, 8, p, 0, 0);
	buf[15] = bpf_dynptr_size(p);
	if (bpf_user_ringbuf_drain(&user, count, s, 0) == -16)
		buf[14] = 16;
	bpf_ringbuf_output(&out, buf, sizeof(buf), 0);
	return 0;
}

SEC("tc") __success int user_forward(struct __sk_buff *ctx)
{
	struct seen s = {};

	return bpf_user_ringbuf_drain(&user, forward, &s, 2 /* BPF_RB_FORCE_WAKEUP */) + s.n * 100;
}

SEC("tc") __success __retval(-22) int user_flags(struct __sk_buff *ctx)
{
	struct seen s = {};

	return bpf_user_ringbuf_drain(&user, count, &s, 4);
}

LICENSE;
