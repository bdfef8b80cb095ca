// A chain of three programs through a program array that the object fills itself; the last slot is empty.
#include "skep_test.h"

int second(struct __sk_buff *ctx);
int third(struct __sk_buff *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(struct __sk_buff *));
} chain SEC(".maps") = {.values = {[0] = &second, [1] = &third}};

u32 visited;

SEC("tc") __success __retval(123) int first(struct __sk_buff *ctx)
{
	visited = 1;
	bpf_tail_call(ctx, &chain, 0);
	return -1;
}

SEC("tc") __success int second(struct __sk_buff *ctx)
{
	visited = visited * 10 + 2;
	bpf_tail_call(ctx, &chain, 1);
	return -2;
}

SEC("tc") __success int third(struct __sk_buff *ctx)
{
	visited = visited * 10 + 3;
	bpf_tail_call(ctx, &chain, 2); // empty: falls through
	return visited;
}

static __noinline long six(long a, long b, long c, long d, long e, long f)
{
	long s = stack_arg_load(6);

	return a + b + c + d + e + s;
}

SEC("tc") __failure __msg("tail_calls are not allowed in programs with stack args") int with_stack_args(struct __sk_buff *ctx)
{
	long one = ctx->mark + 1, r;

	stack_arg_store(6, 6);
	r = six(one, one + 1, one + 2, one + 3, one + 4, 0);
	bpf_tail_call(ctx, &chain, 2);
	return r;
}

// A tail call in a function that is not on a chain of calls with slots is fine, before such a chain and after.
static __noinline int leave(struct __sk_buff *ctx)
{
	int failed = -1;

	visited = 1;
	bpf_tail_call(ctx, &chain, 0);
	asm volatile("" : "+r"(failed)); // what returns otherwise is another program, which the compiler cannot know
	return failed;
}

static __noinline long through(struct __sk_buff *ctx, long v)
{
	long r;

	stack_arg_store(6, v);
	r = six(v, v + 1, v + 2, v + 3, v + 4, 0);
	stack_arg_store(6, r);
	return v + six(v, v, v, v, v, 0);
}

// through(v) = v + 5v + (5v + 10 + v) = 12v + 10
SEC("tc") __success __retval(16165) int tail_call_in_sibling(struct __sk_buff *ctx)
{
	long r = through(ctx, ctx->mark + 1); // 22

	r += 100 * leave(ctx);                // 12300
	return r + through(ctx, ctx->mark + 319) + 5;
}

LICENSE;
