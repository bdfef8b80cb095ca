// What `skep demo` runs: packets counted in a map, a function of twelve arguments, a kfunc of twelve written in Go
// and one in machine code. Both are weak: where there is no machine code the call of skep_native12 is dead code.
#include "../../../testdata/skep_test.h"
#include <skep/bpf_stack_args.h>

struct count {
	u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32); // IP protocol
	__type(value, struct count);
} packets SEC(".maps");

u64 go_result, native_result, function_result;

SKEP_KFUNC(long, skep_sum12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l);
SKEP_KFUNC(long, skep_native12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l);

// Weighs each argument by its number, so that a mixed-up argument shows.
SKEP_FUNC(long, weigh12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;
}

// Calls F, which takes twelve, with v, v+1, ..., v+11.
#define call12(F, v) SKEP_CALL(F, v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8, v + 9, v + 10, v + 11)

static __noinline u32 protocol(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->proto != bpf_htons(0x0800))
		return 0xff;
	return ip->protocol;
}

SEC("xdp") int demo(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct count *c, fresh = {1, end - data};
	u32 key = protocol(data, end);
	long v = key;

	c = bpf_map_lookup_elem(&packets, &key);
	if (c) {
		__sync_fetch_and_add(&c->packets, 1);
		__sync_fetch_and_add(&c->bytes, end - data);
	} else {
		bpf_map_update_elem(&packets, &key, &fresh, 0);
	}

	function_result = call12(weigh12, v);
	if (skep_sum12)
		go_result = call12(skep_sum12, v);
	if (skep_native12)
		native_result = call12(skep_native12, v);
	return XDP_PASS;
}

LICENSE;
