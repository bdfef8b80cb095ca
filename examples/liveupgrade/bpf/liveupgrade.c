// A packet filter that is upgraded while traffic runs. The dispatcher stays; what it tail-calls is replaced, and the versions share a map.
#include "skep_test.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} current SEC(".maps");

struct counters {
	u64 packets, bytes, dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} state SEC(".maps");

SEC("xdp") int dispatch(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &current, 0);
	return XDP_ABORTED; // there is no version, which must never be
}

static __always_inline struct counters *count(struct xdp_md *ctx)
{
	u32 key = 0;
	struct counters *c = bpf_map_lookup_elem(&state, &key);

	if (c) {
		c->packets++;
		c->bytes += ctx->data_end - ctx->data;
	}
	return c;
}

// The first version lets everything pass.
SEC("xdp") int version1(struct xdp_md *ctx)
{
	count(ctx);
	return XDP_PASS;
}

// The second drops what is not IPv4, and goes on with the numbers of the first.
SEC("xdp") int version2(struct xdp_md *ctx)
{
	struct counters *c = count(ctx);
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end || eth->proto == bpf_htons(0x0800))
		return XDP_PASS;
	if (c)
		c->dropped++;
	return XDP_DROP;
}

LICENSE;
