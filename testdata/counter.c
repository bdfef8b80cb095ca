// Packets and bytes per IP protocol, for XDP: a hash map by protocol, an array of totals, a per-CPU array.
#include "skep_test.h"

struct count {
	u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct count);
} by_protocol SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct count);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} per_cpu SEC(".maps");

static __always_inline void add(struct count *c, u64 bytes)
{
	__sync_fetch_and_add(&c->packets, 1);
	__sync_fetch_and_add(&c->bytes, bytes);
}

static __noinline u32 protocol(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->proto != bpf_htons(0x0800))
		return 0xff;
	return ip->protocol;
}

SEC("xdp") __success __retval(2) int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 key = protocol(data, end), zero = 0, which = key == 0xff;
	struct count *c, fresh = {1, end - data};
	u64 *n;

	c = bpf_map_lookup_elem(&by_protocol, &key);
	if (c)
		add(c, end - data);
	else
		bpf_map_update_elem(&by_protocol, &key, &fresh, 0);
	c = bpf_map_lookup_elem(&totals, &which);
	if (c)
		add(c, end - data);
	n = bpf_map_lookup_elem(&per_cpu, &zero);
	if (n)
		++*n;
	return XDP_PASS;
}

SEC("xdp") __failure __msg("invalid access to packet, off=12 size=1, R1(id=0,off=12,r=0)") int unchecked(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return eth->proto == bpf_htons(0x0800) ? XDP_PASS : XDP_DROP;
}

LICENSE;
