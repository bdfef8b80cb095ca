// Eight arguments, each forwarded plus one, through two functions; and two callees with different counts.
#include "skep_test.h"

static __noinline long inner8(long a, long b, long c, long d, long e, long f, long g, long h)
{
	long s = stack_arg_load(6) + stack_arg_load(7) + stack_arg_load(8);

	return a + b + c + d + e + s;
}

static __noinline long outer8(long a, long b, long c, long d, long e, long f, long g, long h)
{
	long x = stack_arg_load(6), y = stack_arg_load(7), z = stack_arg_load(8);

	stack_arg_store(6, x + 1);
	stack_arg_store(7, y + 1);
	stack_arg_store(8, z + 1);
	return inner8(a + 1, b + 1, c + 1, d + 1, e + 1, 0, 0, 0);
}

static __noinline long sum6(long a, long b, long c, long d, long e, long f)
{
	long s = stack_arg_load(6);

	return a + b + c + d + e + s;
}

SEC("tc") __success __retval(29) int nesting(struct __sk_buff *ctx)
{
	long zero = ctx->mark;

	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, 8);
	return outer8(zero, zero, zero, zero, zero, 0, 0, 0);
}

SEC("tc") __success __retval(57) int two_callees(struct __sk_buff *ctx)
{
	long zero = ctx->mark, r;

	stack_arg_store(6, 6);
	r = sum6(zero + 1, zero + 2, zero + 3, zero + 4, zero + 5, 0);
	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, 8);
	return r + inner8(zero + 1, zero + 2, zero + 3, zero + 4, zero + 5, 0, 0, 0);
}

SEC("tc") __failure __msg("func#0 writes 2 stack arg slots, but calls only require 1") int writes_too_many(struct __sk_buff *ctx)
{
	long zero = ctx->mark;

	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	return sum6(zero + 1, zero + 2, zero + 3, zero + 4, zero + 5, 0);
}

LICENSE;
