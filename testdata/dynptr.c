// Dynptrs: of a map's value, of records of a ring buffer, of packets.
#include "skep_test.h"

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_skb_pull_data)(void *ctx, u32 len) = (void *)39;
static long (*const bpf_loop)(u32 n, void *fn, void *ctx, u64 flags) = (void *)181;
static long (*const bpf_dynptr_from_mem)(void *data, u32 size, u64 flags, struct bpf_dynptr *p) = (void *)197;
static long (*const bpf_ringbuf_reserve_dynptr)(void *ring, u32 size, u64 flags, struct bpf_dynptr *p) = (void *)198;
static void (*const bpf_ringbuf_submit_dynptr)(struct bpf_dynptr *p, u64 flags) = (void *)199;
static void (*const bpf_ringbuf_discard_dynptr)(struct bpf_dynptr *p, u64 flags) = (void *)200;
static long (*const bpf_dynptr_read)(void *to, u32 len, const struct bpf_dynptr *p, u32 off, u64 flags) = (void *)201;
static long (*const bpf_dynptr_write)(const struct bpf_dynptr *p, u32 off, void *from, u32 len, u64 flags) = (void *)202;
static void *(*const bpf_dynptr_data)(const struct bpf_dynptr *p, u32 off, u32 len) = (void *)203;

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *p) __weak __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, u64 flags, struct bpf_dynptr *p) __weak __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 off, void *buf, u32 len) __weak __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 off, void *buf, u32 len) __weak __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *p, u32 start, u32 end) __weak __ksym;
extern bool bpf_dynptr_is_null(const struct bpf_dynptr *p) __weak __ksym;
extern bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p) __weak __ksym;
extern u32 bpf_dynptr_size(const struct bpf_dynptr *p) __weak __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone) __weak __ksym;
extern int bpf_dynptr_copy(struct bpf_dynptr *dst, u32 dst_off, struct bpf_dynptr *src, u32 src_off, u32 size) __weak __ksym;
extern int bpf_dynptr_memset(struct bpf_dynptr *p, u32 off, u32 size, u8 val) __weak __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u8[64]);
} array SEC(".maps");

struct {
	__uint(type, 27);
	__uint(max_entries, 4096);
} ring SEC(".maps");

#define VALUE() ({ u32 zero = 0; bpf_map_lookup_elem(&array, &zero); })

// What a call said, into a number that depends on all of them.
#define note(x) (sum = sum * 37 + (u32)(x))

SEC("tc") __success int dynptr_local(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q;
	u64 word = 0x0102030405060708;
	u32 sum = 0;

	u8 *value = VALUE();
	if (!value)
		return 0;
	note(bpf_dynptr_from_mem(value, 64, 1, &p));
	note(bpf_dynptr_is_null(&p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_read(&word, 8, &p, 0, 0));
	note(bpf_dynptr_write(&p, 0, &word, 8, 0));
	note(bpf_dynptr_clone(&p, &q));
	note(bpf_dynptr_adjust(&p, 0, 0));

	note(bpf_dynptr_from_mem(value, 64, 0, &p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_is_null(&p));
	note(bpf_dynptr_is_rdonly(&p));
	note(bpf_dynptr_write(&p, 8, &word, 8, 0));
	note(bpf_dynptr_write(&p, 57, &word, 8, 0));
	note(bpf_dynptr_write(&p, 56, &word, 8, 0));
	note(bpf_dynptr_write(&p, 64, &word, 0, 0));
	note(bpf_dynptr_write(&p, 65, &word, 0, 0));
	note(bpf_dynptr_write(&p, -1, &word, 8, 0));
	note(bpf_dynptr_write(&p, 0, &word, 8, 1));
	note(bpf_dynptr_read(&word, 4, &p, 9, 0));
	note(word);
	note(bpf_dynptr_read(&word, 8, &p, 9, 1));
	note(bpf_dynptr_read(&word, 8, &p, 60, 0));

	note(bpf_dynptr_adjust(&p, 8, 32));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_adjust(&p, 8, 7));
	note(bpf_dynptr_adjust(&p, 8, 25));
	note(bpf_dynptr_adjust(&p, 25, 25));
	note(bpf_dynptr_clone(&p, &q));
	note(bpf_dynptr_adjust(&q, 4, 12));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_size(&q));
	note(bpf_dynptr_read(&word, 8, &q, 0, 0));
	note(word >> 32);
	note(bpf_dynptr_read(&word, 8, &q, 1, 0));

	u32 *data = bpf_dynptr_data(&q, 4, 4);
	note(data ? *data : 1);
	if (data)
		*data = 0xcafe;
	data = bpf_dynptr_data(&q, 5, 4);
	note(data ? *data : 2);
	const u32 *slice = bpf_dynptr_slice(&q, 4, NULL, 4);
	note(slice ? *slice : 3);
	u32 *rdwr = bpf_dynptr_slice_rdwr(&p, 12, NULL, 4);
	note(rdwr ? *rdwr : 4);
	if (rdwr)
		*rdwr = 5;
	note(value[8 + 4 + 4]);
	note(value[20]);
	return sum & 0x7fffffff;
}

SEC("tc") __success int dynptr_copies(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q, none;
	u32 sum = 0;

	u8 *value = VALUE();
	if (!value)
		return 0;
	for (int i = 0; i < 64; i++)
		value[i] = i * 3;
	bpf_dynptr_from_mem(value, 40, 0, &p);
	bpf_dynptr_from_mem(value + 16, 48, 0, &q);
	bpf_dynptr_from_mem(value, 40, 1, &none);
	note(bpf_dynptr_copy(&q, 1, &p, 3, 20));
	note(bpf_dynptr_copy(&p, 0, &q, 0, 41));
	note(bpf_dynptr_copy(&p, 30, &q, 0, 11));
	note(bpf_dynptr_copy(&p, 0, &q, 40, 9));
	note(bpf_dynptr_copy(&p, 0, &none, 0, 8));
	note(bpf_dynptr_copy(&none, 0, &p, 0, 8));
	note(bpf_dynptr_copy(&none, 0, &none, 0, 8));
	note(bpf_dynptr_copy(&none, 0, &none, 0, 0));
	note(bpf_dynptr_copy(&p, 40, &q, 48, 0));
	note(bpf_dynptr_memset(&q, 40, 8, 0xff));
	note(bpf_dynptr_memset(&q, 41, 8, 1));
	note(bpf_dynptr_memset(&q, 0, 0, 1));
	note(bpf_dynptr_memset(&none, 0, 1, 1));
	note(bpf_dynptr_memset(&none, 0, 0, 1));
	for (int i = 0; i < 64; i++)
		note(value[i]);
	return sum & 0x7fffffff;
}

SEC("tc") __success int dynptr_ring(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q;
	u32 sum = 0, n = ctx->len;
	u64 word = 0x1112131415161718;

	note(bpf_ringbuf_reserve_dynptr(&ring, n, 0, &p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_memset(&p, 0, n, 9));
	note(bpf_dynptr_write(&p, 8, &word, 8, 0));
	note(bpf_dynptr_write(&p, n - 4, &word, 8, 0));
	note(bpf_dynptr_clone(&p, &q));
	u64 *data = bpf_dynptr_data(&q, 16, 8);
	if (data)
		*data = 77;
	bpf_ringbuf_submit_dynptr(&q, 0);

	note(bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &p));
	bpf_ringbuf_discard_dynptr(&p, 0);
	note(bpf_ringbuf_reserve_dynptr(&ring, 8, 1, &p));
	note(bpf_dynptr_is_null(&p));
	bpf_ringbuf_submit_dynptr(&p, 0);
	note(bpf_ringbuf_reserve_dynptr(&ring, 4096, 0, &p));
	bpf_ringbuf_submit_dynptr(&p, 0);
	note(bpf_ringbuf_reserve_dynptr(&ring, 1 << 24, 0, &p));
	bpf_ringbuf_discard_dynptr(&p, 0);
	return sum & 0x7fffffff;
}

static int one_record(u32 i, void *ctx)
{
	struct bpf_dynptr p;

	bpf_ringbuf_reserve_dynptr(&ring, 8 + i, 0, &p);
	bpf_dynptr_memset(&p, 0, 8 + i, i);
	if (i & 1)
		bpf_ringbuf_submit_dynptr(&p, 0);
	else
		bpf_ringbuf_discard_dynptr(&p, 0);
	return 0;
}

SEC("tc") __success int dynptr_ring_rounds(struct __sk_buff *ctx)
{
	return bpf_loop(20, one_record, NULL, 0);
}

SEC("tc") __success int dynptr_skb(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q;
	u8 buf[16] = {};
	u64 word = 0xa1a2a3a4a5a6a7a8;
	u32 sum = 0;

	note(bpf_dynptr_from_skb(ctx, 1, &p));
	note(bpf_dynptr_is_null(&p));
	note(bpf_dynptr_from_skb(ctx, 0, &p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_is_rdonly(&p));
	note(bpf_dynptr_read(buf, 6, &p, 0, 0));
	note(bpf_dynptr_write(&p, 20, &word, 8, 0));
	note(bpf_dynptr_write(&p, 20, &word, 8, 1));
	note(bpf_dynptr_write(&p, 20, &word, 8, 4));
	note(bpf_dynptr_write(&p, bpf_dynptr_size(&p) - 7, &word, 8, 0));
	note(bpf_dynptr_data(&p, 0, 8) != 0);

	const u8 *r = bpf_dynptr_slice(&p, 18, buf, 16);
	if (r)
		for (int i = 0; i < 16; i++)
			note(r[i]);
	u8 *w = bpf_dynptr_slice_rdwr(&p, 30, buf, 4);
	if (w) {
		w[0] = 1;
		w[3] = 4;
		note(w == buf);
	}
	note(bpf_dynptr_slice(&p, bpf_dynptr_size(&p) - 3, buf, 4) == NULL);

	note(bpf_dynptr_clone(&p, &q));
	note(bpf_dynptr_adjust(&q, 14, 34));
	note(bpf_dynptr_size(&q));
	note(bpf_dynptr_read(buf, 4, &q, 16, 0));
	note(buf[0] + buf[3] * 256);
	note(bpf_dynptr_read(buf, 4, &q, 17, 0));
	note(bpf_dynptr_copy(&q, 0, &p, 20, 8));
	note(bpf_dynptr_memset(&q, 8, 4, 0xee));
	note(bpf_skb_pull_data(ctx, 20));
	r = bpf_dynptr_slice(&q, 0, NULL, 12);
	if (r)
		for (int i = 0; i < 12; i++)
			note(r[i]);
	return sum & 0x7fffffff;
}

// A program that may not write to packets gets a dynptr that says so.
SEC("socket") __success int dynptr_skb_rdonly(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q;
	u64 word = 0;
	u32 sum = 0;

	note(bpf_dynptr_from_skb(ctx, 0, &p));
	note(bpf_dynptr_is_rdonly(&p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_write(&p, 0, &word, 8, 0));
	note(bpf_dynptr_read(&word, 8, &p, 4, 0));
	note(word);
	note(bpf_dynptr_clone(&p, &q));
	note(bpf_dynptr_is_rdonly(&q));
	note(bpf_dynptr_memset(&q, 0, 1, 0));
	const u32 *r = bpf_dynptr_slice(&q, 4, NULL, 4);
	note(r ? *r : 0);
	return sum & 0x7fffffff;
}

SEC("xdp") __success int dynptr_xdp(struct xdp_md *ctx)
{
	struct bpf_dynptr p;
	u8 buf[16] = {};
	u64 word = 0xb1b2b3b4b5b6b7b8;
	u32 sum = 0;

	note(bpf_dynptr_from_xdp(ctx, 1, &p));
	note(bpf_dynptr_from_xdp(ctx, 0, &p));
	note(bpf_dynptr_size(&p));
	note(bpf_dynptr_is_rdonly(&p));
	note(bpf_dynptr_write(&p, 16, &word, 8, 0));
	note(bpf_dynptr_write(&p, 16, &word, 8, 1));
	note(bpf_dynptr_write(&p, bpf_dynptr_size(&p) - 7, &word, 8, 0));
	note(bpf_dynptr_read(buf, 8, &p, 14, 0));
	for (int i = 0; i < 8; i++)
		note(buf[i]);
	u8 *w = bpf_dynptr_slice_rdwr(&p, 24, buf, 8);
	if (w) {
		w[0] = 3;
		w[7] = 5;
		note(w == buf);
	}
	note(bpf_dynptr_memset(&p, 40, 3, 0x55));
	note(bpf_dynptr_copy(&p, 44, &p, 24, 8));
	note(bpf_dynptr_data(&p, 0, 8) != 0);
	return sum & 0x7fffffff;
}

__noinline int total(const struct bpf_dynptr *p)
{
	u32 *a = bpf_dynptr_data(p, 0, 4);
	u32 sum = a ? *a : 99;
	u8 b[4] = {};

	bpf_dynptr_read(b, 4, p, 4, 0);
	return (sum + b[0] * 3 + b[3]) & 0x7fffffff;
}

// A global function gets dynptrs of any memory.
SEC("tc") __success int dynptr_global(struct __sk_buff *ctx)
{
	struct bpf_dynptr p, q, r;
	u32 sum = 0;

	u8 *value = VALUE();
	if (!value)
		return 0;
	for (int i = 0; i < 8; i++)
		value[i] = i + 1;
	bpf_dynptr_from_mem(value, 64, 0, &p);
	note(total(&p));
	bpf_dynptr_from_skb(ctx, 0, &q);
	note(total(&q));
	bpf_ringbuf_reserve_dynptr(&ring, 16, 0, &r);
	bpf_dynptr_memset(&r, 0, 16, 3);
	note(total(&r));
	bpf_ringbuf_submit_dynptr(&r, 0);
	return sum & 0x7fffffff;
}

LICENSE;
