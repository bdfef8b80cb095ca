// A global function, verified on its own by its BTF, calls a static one of ten arguments.
#include "skep_test.h"

static __noinline long sum10(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
	long s = stack_arg_load(6) + stack_arg_load(7) + stack_arg_load(8) + stack_arg_load(9) + stack_arg_load(10);

	return a + b + c + d + e + s;
}

__noinline long global_sum(u32 v)
{
	long one = (long)v + 1;

	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, 8);
	stack_arg_store(9, 9);
	stack_arg_store(10, 10);
	return sum10(one, one + 1, one + 2, one + 3, one + 4, 0, 0, 0, 0, 0);
}

__weak __noinline long weak_twice(u32 v)
{
	return 2 * (u64)v;
}

__hidden __noinline long hidden_first(const u8 *p)
{
	// As a global function this would be refused: p could be NULL. Hidden, it is verified with its caller.
	return *p;
}

SEC("tc") __success __retval(55) int call_global(struct __sk_buff *ctx)
{
	return global_sum(ctx->mark);
}

SEC("tc") __success __retval(42) int call_weak_and_hidden(struct __sk_buff *ctx)
{
	u8 byte = 2;

	asm volatile("" : "+r"(ctx)::"memory");
	return weak_twice(ctx->mark + 20) + hidden_first(&byte);
}

LICENSE;
