// Open-coded iterators over numbers.
#include "skep_test.h"

struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

// How libbpf's bpf_for comes out.
#define for_each_number(i, start, end)                                                                                           \
	for (struct bpf_iter_num it __attribute__((cleanup(bpf_iter_num_destroy))), *p = (bpf_iter_num_new(&it, (start), (end)), &it); \
	     ({ int *n = bpf_iter_num_next(p); if (n) (i) = *n; n; });)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} array SEC(".maps");

SEC("tc") __success __retval(499500) int iter_sum(struct __sk_buff *ctx)
{
	int i = 0, sum = 0;

	for_each_number(i, 0, 1000)
		sum += i;
	return sum;
}

// Bounds that are known at run time only.
SEC("tc") __success __retval(2016) int iter_unknown_bound(struct __sk_buff *ctx)
{
	int i = 0, sum = 0;

	for_each_number(i, ctx->mark, ctx->len)
		sum += i;
	return sum;
}

SEC("tc") __success __retval(5) int iter_negative(struct __sk_buff *ctx)
{
	int i = 0, n = 0;

	for_each_number(i, -3, 2)
		n++;
	return n;
}

SEC("tc") __success __retval(1) int iter_least_and_greatest(struct __sk_buff *ctx)
{
	int i = 0, n = 0;

	for_each_number(i, -2147483647 - 1, -2147483647)
		n++;
	for_each_number(i, 2147483647, 2147483647)
		n += 10;
	return n;
}

SEC("tc") __success __retval(-22) int iter_backwards(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	int err = bpf_iter_num_new(&it, 5, 4);

	if (bpf_iter_num_next(&it))
		err = 1;
	bpf_iter_num_destroy(&it);
	return err;
}

SEC("tc") __success __retval(-7) int iter_too_many(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	int err = bpf_iter_num_new(&it, -1, 8 << 20);

	if (bpf_iter_num_next(&it))
		err = 1;
	bpf_iter_num_destroy(&it);
	return err;
}

SEC("tc") __success __retval(450) int iter_nested(struct __sk_buff *ctx)
{
	int i = 0, j = 0, sum = 0;

	for_each_number(i, 0, 10)
		for_each_number(j, 0, 10)
			sum += j;
	return sum;
}

// The number is an index.
SEC("tc") __success __retval(120) int iter_index(struct __sk_buff *ctx)
{
	int i = 0, sum = 0;

	for_each_number(i, 0, 16) {
		u32 key = i;
		u64 *v = bpf_map_lookup_elem(&array, &key);

		if (v) {
			*v = i;
			sum += *v;
		}
	}
	return sum;
}

SEC("tc") __success __retval(42) int iter_break(struct __sk_buff *ctx)
{
	int i = 0, last = 0;

	for_each_number(i, 0, 1 << 20) {
		last = i;
		if (i == 42)
			break;
	}
	return last;
}

static __noinline long sum8(long a, long b, long c, long d, long e, long f, long g, long h)
{
	long s = stack_arg_load(6) + stack_arg_load(7) + stack_arg_load(8);

	return a + b + c + d + e + s;
}

// A function of eight arguments in the body: 28 and three times the number each round.
SEC("tc") __success __retval(415) int iter_many_arguments(struct __sk_buff *ctx)
{
	long sum = 0;
	int i = 0;

	for_each_number(i, 0, 10) {
		stack_arg_store(6, i);
		stack_arg_store(7, i);
		stack_arg_store(8, i + 13);
		sum += sum8(1, 2, 3, 4, 5, 0, 0, 0);
	}
	return sum;
}

SEC("tc") __failure __msg("Unreleased reference id=") int iter_leak(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 3);
	return 0;
}

SEC("tc") __failure __msg("expected an initialized iter_num as arg #0") int iter_not_made(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_next(&it);
	return 0;
}

SEC("tc") __failure __msg("expected uninitialized iter_num as arg #0") int iter_made_twice(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 3);
	bpf_iter_num_new(&it, 0, 3);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc") __failure __msg("invalid read from stack off -8+0 size 8") int iter_read(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 3);
	long v = *(volatile long *)&it;

	bpf_iter_num_destroy(&it);
	return v;
}

SEC("tc") __failure __msg("invalid mem access 'scalar'") int iter_number_after_destroy(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 3);
	volatile int *n = bpf_iter_num_next(&it);

	bpf_iter_num_destroy(&it);
	return n ? *n : 0;
}

LICENSE;
