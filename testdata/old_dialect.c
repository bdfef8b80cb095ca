// The first version of the stack-argument design: one register, r12, for both directions. The assembler does not know
// it, so that the instructions are spelled in bytes, with r6 as the other register.
#include "skep_test.h"

#define old_store(slot, value)                                                                                    \
	({                                                                                                        \
		register long __v asm("r6") = (value);                                                            \
		asm volatile(".byte 0x7b, 0x6c; .short %0; .long 0" ::"i"(-8 * (slot)), "r"(__v) : "memory");     \
	})
#define old_load(slot)                                                                                            \
	({                                                                                                        \
		register long __x asm("r6");                                                                      \
		asm volatile(".byte 0x79, 0xc6; .short %1; .long 0" : "=r"(__x) : "i"(-8 * (slot)));              \
		__x;                                                                                              \
	})

static __noinline long inner7(long a, long b, long c, long d, long e, long f, long g)
{
	long s = old_load(1);

	s = 10 * s + old_load(2);
	return a + b + c + d + e + s;
}

// Two incoming slots, so the outgoing ones begin at the third.
static __noinline long outer7(long a, long b, long c, long d, long e, long f, long g)
{
	long x = old_load(1), y = old_load(2);

	old_store(3, x + 1);
	old_store(4, y + 1);
	return inner7(a, b, c, d, e, 0, 0);
}

SEC("tc") __success __retval(93) int old_nesting(struct __sk_buff *ctx)
{
	long one = ctx->mark + 1;

	old_store(1, 6);
	old_store(2, 7);
	return outer7(one, one + 1, one + 2, one + 3, one + 4, 0, 0);
}

LICENSE;
