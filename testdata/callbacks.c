// Callbacks of bpf_loop: rounds, their end, errors, nesting, calls of functions with many arguments from a callback.
#include "skep_test.h"

static long (*const bpf_loop)(u32 nr_loops, void *callback, void *ctx, u64 flags) = (void *)181;

static long (*const bpf_for_each_map_elem)(void *map, void *callback, void *ctx, u64 flags) = (void *)164;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__type(value, u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, u32);
	__type(value, u64);
} percpu SEC(".maps");

struct sums {
	long sum, rounds;
};

static long add(u64 i, struct sums *s)
{
	s->sum += i;
	s->rounds++;
	return 0;
}

SEC("tc") __success __retval(4950) int loop_sum(struct __sk_buff *ctx)
{
	struct sums s = {};

	bpf_loop(100, add, &s, 0);
	return s.sum;
}

SEC("tc") __success __retval(100) int loop_returns_rounds(struct __sk_buff *ctx)
{
	struct sums s = {};

	return bpf_loop(100, add, &s, 0);
}

SEC("tc") __success __retval(0) int loop_no_round(struct __sk_buff *ctx)
{
	struct sums s = {};

	return bpf_loop(ctx->mark, add, &s, 0);
}

static long until_seven(u64 i, struct sums *s)
{
	s->rounds++;
	return i == 7;
}

SEC("tc") __success __retval(808) int loop_ends_early(struct __sk_buff *ctx)
{
	struct sums s = {};
	long n = bpf_loop(100, until_seven, &s, 0);

	return 100 * n + s.rounds;
}

SEC("tc") __success __retval(-7) int loop_too_many(struct __sk_buff *ctx)
{
	struct sums s = {};

	return bpf_loop((8 << 20) + 1, add, &s, 0);
}

SEC("tc") __success __retval(-22) int loop_bad_flags(struct __sk_buff *ctx)
{
	struct sums s = {};

	return bpf_loop(5, add, &s, 1);
}

// The caller's registers and stack outlive the loop.
SEC("tc") __success __retval(1010) int loop_keeps(struct __sk_buff *ctx)
{
	long a = ctx->mark + 1, b = ctx->mark + 2, c = ctx->mark + 3, d = ctx->mark + 4;
	volatile long on_stack[4] = {100, 200, 300, 400};
	struct sums s = {};

	bpf_loop(10, add, &s, 0);
	return a + b + c + d + on_stack[0] + on_stack[1] + on_stack[2] + on_stack[3];
}

static long inner(u64 i, struct sums *s)
{
	s->sum += i;
	return 0;
}

static long outer(u64 i, struct sums *s)
{
	s->rounds += bpf_loop(4, inner, s, 0);
	return 0;
}

SEC("tc") __success __retval(1830) int loop_nested(struct __sk_buff *ctx)
{
	struct sums s = {};

	bpf_loop(3, outer, &s, 0);
	return 100 * s.sum + s.rounds + 18;
}

static long sub(u64 i, struct sums *s)
{
	s->sum -= i;
	return 0;
}

// Which callback is called is known at run time only.
SEC("tc") __success __retval(-45) int loop_two_callbacks(struct __sk_buff *ctx)
{
	struct sums s = {};
	void *f = ctx->len > 10 ? (void *)sub : (void *)add;

	bpf_loop(10, f, &s, 0);
	return s.sum;
}

static __noinline long sum10(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
	long s = stack_arg_load(6) + stack_arg_load(7) + stack_arg_load(8) + stack_arg_load(9) + stack_arg_load(10);

	return a + b + c + d + e + s;
}

static long many(u64 i, struct sums *s)
{
	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, i);
	stack_arg_store(9, 9);
	stack_arg_store(10, 10);
	s->sum += sum10(1, 2, 3, 4, 5, 0, 0, 0, 0, 0);
	return 0;
}

// A callback may call functions of many arguments: 47 + i a round.
SEC("tc") __success __retval(151) int loop_many_arguments(struct __sk_buff *ctx)
{
	struct sums s = {};

	bpf_loop(3, many, &s, 0);
	return s.sum + 7;
}

static long add_element(void *map, u32 *key, u64 *value, struct sums *s)
{
	s->sum += 10 * *key + *value;
	s->rounds++;
	*value += 1;
	return 0;
}

// 100 for the keys each time, and every value was one the second time.
SEC("tc") __success __retval(2060) int each_of_array(struct __sk_buff *ctx)
{
	struct sums s = {};
	long n = bpf_for_each_map_elem(&array, add_element, &s, 0);

	n += bpf_for_each_map_elem(&array, add_element, &s, 0);
	return 10 * s.sum + n;
}

SEC("tc") __success __retval(336) int each_of_hash(struct __sk_buff *ctx)
{
	struct sums s = {};

	for (u32 i = 1; i <= 3; i++) {
		u64 value = i * 100 / 2;
		u32 key = i;

		bpf_map_update_elem(&hash, &key, &value, 0);
	}
	long n = bpf_for_each_map_elem(&hash, add_element, &s, 0);

	for (u32 i = 1; i <= 3; i++) {
		u32 key = i;

		bpf_map_delete_elem(&hash, &key);
	}
	return n == 3 && bpf_for_each_map_elem(&hash, add_element, &s, 0) == 0 ? s.sum - 24 : -1;
}

static long delete_and_stop(void *map, u32 *key, u64 *value, struct sums *s)
{
	u32 zero = 0;
	u64 *count = bpf_map_lookup_elem(&array, &zero);

	bpf_map_delete_elem(map, key);
	s->rounds++;
	return count && ++*count == 2;
}

// The callback deletes what it sees and ends after two of three.
SEC("tc") __success __retval(221) int each_deletes(struct __sk_buff *ctx)
{
	struct sums s = {};

	for (u32 i = 1; i <= 3; i++) {
		u64 value = i;
		u32 key = i;

		bpf_map_update_elem(&hash, &key, &value, 0);
	}
	long n = bpf_for_each_map_elem(&hash, delete_and_stop, &s, 0);
	struct sums rest = {};

	bpf_for_each_map_elem(&hash, add_element, &rest, 0);
	for (u32 i = 1; i <= 3; i++) {
		u32 key = i;

		bpf_map_delete_elem(&hash, &key);
	}
	return 100 * n + 10 * s.rounds + rest.rounds;
}

static long look_at_element(void *map, u32 *key, u64 *value, struct sums *s)
{
	s->sum += 10 * *key + *value;
	return 0;
}

static long keep_key(void *map, u32 *key, u64 *value, u32 **kept)
{
	*kept = key;
	return 0;
}

static __noinline int keeps_key(u32 **kept)
{
	return bpf_for_each_map_elem(&array, keep_key, kept, 0);
}

static __noinline int uses_stack(struct __sk_buff *ctx)
{
	volatile u64 a[16];

	for (int i = 0; i < 16; i++)
		a[i] = ~0ull;
	return a[ctx->mark & 15] == 0;
}

// A key's address may be kept longer than the frame of the call that it came from.
SEC("tc") __success __retval(54) int each_keeps_key(struct __sk_buff *ctx)
{
	u32 *kept = NULL;
	int n = keeps_key(&kept);

	n += uses_stack(ctx);
	return kept ? 10 * n + *kept : -1;
}

SEC("tc") __success __retval(33) int each_of_percpu(struct __sk_buff *ctx)
{
	struct sums s = {};
	long n = bpf_for_each_map_elem(&percpu, look_at_element, &s, 0);

	return s.sum + n;
}

SEC("tc") __success __retval(-22) int each_bad_flags(struct __sk_buff *ctx)
{
	struct sums s = {};

	return bpf_for_each_map_elem(&array, add_element, &s, 1);
}

static long inner_long(u64 i, struct sums *s)
{
	s->sum += i;
	return 0;
}

static long outer_long(u64 i, struct sums *s)
{
	bpf_loop(8 << 20, inner_long, s, 0);
	return 0;
}

// With a large mark, longer than anybody waits: it must be possible to stop it.
SEC("tc") __success __retval(0) int loop_long(struct __sk_buff *ctx)
{
	struct sums s = {};

	bpf_loop(ctx->mark, outer_long, &s, 0);
	return s.sum;
}

LICENSE;
