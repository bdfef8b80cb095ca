// Programs for tests of cases: something of everything that a case can say.
#include "skep_test.h"

enum { BPF_MAP_TYPE_RINGBUF = 27 };

static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;

struct flow {
	u32 addr;
	u16 port;
	u16 proto;
};

struct stat {
	u64 packets, bytes;
	u8 mac[6];
	u8 last;
	char name[9];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct flow);
	__type(value, struct stat);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct event {
	u64 at;
	u32 random, cpu;
};

const volatile u32 limit = 2;
u32 dropped;

extern u32 price(u32 addr, u16 port) __ksym;

// forward counts a flow, takes one from the time to live, and drops what is over the limit.
SEC("xdp") int forward(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	u16 *ports = (void *)(ip + 1);
	struct flow key = {};
	struct stat *s, zero = {};
	u32 i = 0, *n;

	if ((void *)(ports + 2) > end)
		return XDP_ABORTED;
	if (eth->proto != bpf_htons(0x0800)) return XDP_PASS;
	key.addr = ip->daddr;
	key.port = bpf_htons(ports[1]);
	key.proto = ip->protocol;
	s = bpf_map_lookup_elem(&flows, &key);
	if (!s) {
		bpf_map_update_elem(&flows, &key, &zero, 0);
		s = bpf_map_lookup_elem(&flows, &key);
		if (!s)
			return XDP_ABORTED;
	}
	n = bpf_map_lookup_elem(&percpu, &i);
	if (n)
		*n += 1;
	if (s->packets >= limit) {
		dropped++;
		return XDP_DROP;
	}
	s->packets++;
	s->bytes += end - data;
	s->last = ip->protocol;
	ip->ttl--;
	return XDP_TX;
}

SEC("xdp") int report(struct xdp_md *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	u32 i = 1;
	u64 *total;

	if (!e)
		return XDP_ABORTED;
	e->at = bpf_ktime_get_ns();
	e->random = bpf_get_prandom_u32();
	e->cpu = bpf_get_smp_processor_id();
	bpf_ringbuf_submit(e, 0);
	total = bpf_map_lookup_elem(&totals, &i);
	if (total)
		*total += 1;
	return XDP_PASS;
}

SEC("xdp") int charge(struct xdp_md *ctx)
{
	return price(0x0a000001, 80) + price(2, 443);
}

LICENSE;
