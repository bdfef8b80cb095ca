// What `skep demo` runs: packets counted in a map, a function of twelve arguments, a kfunc of twelve written in Go
// and one in machine code. Both are weak, as a kfunc of more than five arguments must be for the compiler to write its
// prototype; where there is no machine code the call of skep_native12 is dead code.
#include "../../../testdata/skep_test.h"

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

extern long skep_sum12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) __ksym __weak;
extern long skep_native12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) __ksym __weak;

// Weighs each argument by its number, so that a mixed-up argument shows.
static __noinline long weigh12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l)
{
	long s = 6 * stack_arg_load(6) + 7 * stack_arg_load(7) + 8 * stack_arg_load(8) + 9 * stack_arg_load(9) +
		 10 * stack_arg_load(10) + 11 * stack_arg_load(11) + 12 * stack_arg_load(12);

	return a + 2 * b + 3 * c + 4 * d + 5 * e + s;
}

// Calls F, a kfunc of twelve, with v, v+1, ..., v+11.
#define call12(F, v)                                                                                                      \
	({                                                                                                                \
		register long r0 asm("r0"), r1 asm("r1"), r2 asm("r2"), r3 asm("r3"), r4 asm("r4"), r5 asm("r5");        \
		stack_arg_store(6, (v) + 5);                                                                              \
		stack_arg_store(7, (v) + 6);                                                                              \
		stack_arg_store(8, (v) + 7);                                                                              \
		stack_arg_store(9, (v) + 8);                                                                              \
		stack_arg_store(10, (v) + 9);                                                                             \
		stack_arg_store(11, (v) + 10);                                                                            \
		stack_arg_store(12, (v) + 11);                                                                            \
		r1 = (v), r2 = (v) + 1, r3 = (v) + 2, r4 = (v) + 3, r5 = (v) + 4;                                         \
		asm volatile("call %[f]"                                                                                  \
			     : "=r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5)                                 \
			     : [f] "i"(F)                                                                                 \
			     : "memory");                                                                                 \
		r0;                                                                                                       \
	})

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

	stack_arg_store(6, v + 5);
	stack_arg_store(7, v + 6);
	stack_arg_store(8, v + 7);
	stack_arg_store(9, v + 8);
	stack_arg_store(10, v + 9);
	stack_arg_store(11, v + 10);
	stack_arg_store(12, v + 11);
	function_result = weigh12(v, v + 1, v + 2, v + 3, v + 4, 0, 0, 0, 0, 0, 0, 0);

	if (skep_sum12)
		go_result = call12(skep_sum12, v);
	if (skep_native12)
		native_result = call12(skep_native12, v);
	return XDP_PASS;
}

LICENSE;
