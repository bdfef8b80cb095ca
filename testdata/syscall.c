// A syscall program: the context is the caller's buffer, readable and writable.
#include "skep_test.h"

struct args {
	u64 a, b, sum;
	u32 rounds, hash;
};

SEC("syscall") __success int add(struct args *ctx)
{
	ctx->sum = ctx->a + ctx->b;
	return 0;
}

// FNV-1a of the low bytes of a, rounds times.
SEC("syscall") __success int hash(struct args *ctx)
{
	u32 h = 2166136261u, n = ctx->rounds & 0x3ff;

	for (u32 i = 0; i < n; i++) {
		h ^= (u8)(ctx->a >> (i & 7) * 8);
		h *= 16777619;
	}
	ctx->hash = h;
	return n;
}

LICENSE;
