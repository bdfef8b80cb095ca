// A function and a kfunc of twelve arguments.
#include "skep_test.h"

static __noinline long sum12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l)
{
	long s = stack_arg_load(6) + stack_arg_load(7) + stack_arg_load(8) + stack_arg_load(9) + stack_arg_load(10) +
		 stack_arg_load(11) + stack_arg_load(12);

	return a + b + c + d + e + s;
}

extern long kfunc12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) __ksym __weak;

SEC("tc") __success __retval(78) int call_function(struct __sk_buff *ctx)
{
	long v = ctx->mark;

	stack_arg_store(6, v + 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, 8);
	stack_arg_store(9, 9);
	stack_arg_store(10, 10);
	stack_arg_store(11, 11);
	stack_arg_store(12, 12);
	return sum12(v + 1, v + 2, v + 3, v + 4, v + 5, 6, 7, 8, 9, 10, 11, 12);
}

// Without the kfunc the call is dead code and the result -1.
SEC("tc") __success int call_kfunc(struct __sk_buff *ctx)
{
	register long r0 asm("r0"), r1 asm("r1") = ctx->mark + 1, r2 asm("r2") = 2, r3 asm("r3") = 3, r4 asm("r4") = 4,
				r5 asm("r5") = 5;

	if (!kfunc12)
		return -1;
	asm volatile("*(u64 *)(r11 - 8) = 6; *(u64 *)(r11 - 16) = 7; *(u64 *)(r11 - 24) = 8; *(u64 *)(r11 - 32) = 9;"
		     "*(u64 *)(r11 - 40) = 10; *(u64 *)(r11 - 48) = 11; *(u64 *)(r11 - 56) = 12; call %[f]"
		     : "=r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5)
		     : [f] "i"(kfunc12)
		     : "memory");
	return r0;
}

SEC("tc") __failure __msg("callee expects 12 args, stack arg7 is not initialized") int missing_argument(struct __sk_buff *ctx)
{
	stack_arg_store(6, 6);
	stack_arg_store(7, 7);
	stack_arg_store(8, 8);
	stack_arg_store(9, 9);
	stack_arg_store(10, 10);
	stack_arg_store(11, 11);
	return sum12(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
}

SEC("tc") __failure __msg("r11 load must be before any r11 store or call insn") int load_after_store(struct __sk_buff *ctx)
{
	stack_arg_store(6, 6);
	return stack_arg_load(6);
}

SEC("tc") __failure __msg("invalid read from stack arg off 8 depth 0") int no_incoming(struct __sk_buff *ctx)
{
	return stack_arg_load(6);
}

LICENSE;
