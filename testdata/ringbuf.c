// Ring buffers: records reserved, submitted, discarded, sent in one step; how full the ring is.
#include "skep_test.h"

static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static u64 (*const bpf_ringbuf_query)(void *ring, u64 flags) = (void *)134;

static long (*const bpf_loop)(u32 n, void *fn, void *ctx, u64 flags) = (void *)181;

struct ring {
	__uint(type, 27); // BPF_MAP_TYPE_RINGBUF
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, 12); // BPF_MAP_TYPE_ARRAY_OF_MAPS
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct ring);
} rings SEC(".maps") = {.values = {NULL, &ring}};

struct {
	__uint(type, 27);
	__uint(max_entries, 65536);
} large SEC(".maps");

SEC("tc") __success __retval(1) int ring_record(struct __sk_buff *ctx)
{
	u64 *rec = bpf_ringbuf_reserve(&ring, 16, 0);

	if (!rec)
		return 0;
	rec[0] = 0x1122334455667788;
	rec[1] = ctx->len;
	bpf_ringbuf_submit(rec, 0);
	return 1;
}

// Records of every length, of which each third is discarded: many go round the end of the ring.
SEC("tc") __success int ring_many(struct __sk_buff *ctx)
{
	u8 data[64] = {};
	int sent = 0;

	for (int i = 0; i < 60; i++) {
		data[0] = i;
		data[i] = i;
		if (bpf_ringbuf_output(&large, data, i, 0) == 0)
			sent++;
		u32 *rec = bpf_ringbuf_reserve(&large, 12, 0);
		if (!rec)
			continue;
		rec[0] = i;
		rec[1] = ~i;
		rec[2] = 7;
		if (i % 3)
			bpf_ringbuf_submit(rec, 0);
		else
			bpf_ringbuf_discard(rec, 0);
	}
	return sent;
}

// The ring is full at some time, and says so.
SEC("tc") __success int ring_full(struct __sk_buff *ctx)
{
	u8 data[56] = {};
	int sent = 0, refused = 0;

	for (int i = 0; i < 100; i++) {
		data[0] = i;
		long err = bpf_ringbuf_output(&ring, data, sizeof(data), 0);
		if (err == 0)
			sent++;
		else if (err == -11)
			refused++;
	}
	return sent * 1000 + refused;
}

// Two records at a time, submitted in the other order.
SEC("tc") __success __retval(2) int ring_order(struct __sk_buff *ctx)
{
	u32 *a = bpf_ringbuf_reserve(&ring, 4, 0);

	if (!a)
		return 0;
	u32 *b = bpf_ringbuf_reserve(&ring, 4, 0);
	if (!b) {
		bpf_ringbuf_discard(a, 0);
		return 1;
	}
	*b = 2;
	bpf_ringbuf_submit(b, 2 /* BPF_RB_FORCE_WAKEUP */);
	*a = 1;
	bpf_ringbuf_submit(a, 1 /* BPF_RB_NO_WAKEUP */);
	return 2;
}

SEC("tc") __success int ring_sizes(struct __sk_buff *ctx)
{
	int n = 0;

	void *rec = bpf_ringbuf_reserve(&ring, 0, 0);
	if (rec) {
		bpf_ringbuf_submit(rec, 0);
		n |= 1;
	}
	rec = bpf_ringbuf_reserve(&ring, 4088, 0);
	if (rec) {
		bpf_ringbuf_discard(rec, 0);
		n |= 2;
	}
	rec = bpf_ringbuf_reserve(&ring, 4080, 0);
	if (rec) {
		bpf_ringbuf_discard(rec, 0);
		n |= 4;
	}
	rec = bpf_ringbuf_reserve(&ring, 1 << 30, 0);
	if (rec) {
		bpf_ringbuf_discard(rec, 0);
		n |= 8;
	}
	rec = bpf_ringbuf_reserve(&ring, 8, 1);
	if (rec) {
		bpf_ringbuf_discard(rec, 0);
		n |= 16;
	}
	u8 byte = 1;
	if (bpf_ringbuf_output(&ring, &byte, 1, 4) == -22)
		n |= 32;
	return n;
}

SEC("tc") __success int ring_query(struct __sk_buff *ctx)
{
	u64 sum = 0;

	u64 *rec = bpf_ringbuf_reserve(&ring, 100, 0);
	for (int what = 0; what < 5; what++)
		sum = sum * 31 + bpf_ringbuf_query(&ring, what);
	if (rec)
		bpf_ringbuf_discard(rec, 0);
	sum = sum * 31 + bpf_ringbuf_query(&ring, 3);
	return sum & 0x7fffffff;
}

// A ring that is found in a map of maps.
SEC("tc") __success __retval(1) int ring_inner(struct __sk_buff *ctx)
{
	u32 which = 1, n = 0;

	void *found = bpf_map_lookup_elem(&rings, &which);
	if (!found)
		return 0;
	u64 *rec = bpf_ringbuf_reserve(found, 24, 0);
	if (rec) {
		rec[0] = rec[2] = bpf_ringbuf_query(found, 1);
		rec[1] = ctx->len;
		bpf_ringbuf_submit(rec, 0);
		n++;
	}
	which = 0;
	return bpf_map_lookup_elem(&rings, &which) ? 100 : n;
}

static int nothing(u32 i, void *ctx)
{
	return 0;
}

static int rounds(u32 i, u32 *n)
{
	bpf_loop(*n, nothing, NULL, 0);
	return 0;
}

// A record that is held for as many rounds as the mark says, squared.
SEC("tc") __success __retval(1) int ring_held(struct __sk_buff *ctx)
{
	u64 *rec = bpf_ringbuf_reserve(&ring, 8, 0);

	if (!rec)
		return 0;
	*rec = 7 + ctx->mark;
	u32 n = ctx->mark;
	bpf_loop(n, rounds, &n, 0);
	bpf_ringbuf_submit(rec, 0);
	return 1;
}

LICENSE;
