// Instructions that came with -mcpu=v4: signed division, sign-extending moves and loads, byte swaps.
#include "skep_test.h"

struct args {
	s64 a, b;
	s8 byte;
	s16 half;
	s32 word;
	u32 pad;
	s64 out[8];
};

SEC("syscall") __success int alu(struct args *ctx)
{
	s64 b = ctx->b;

	ctx->out[0] = ctx->a / b;
	ctx->out[1] = ctx->a % b;
	ctx->out[2] = (s32)ctx->a / (s32)b;
	ctx->out[3] = (s32)ctx->a % (s32)b;
	ctx->out[4] = ctx->byte;
	ctx->out[5] = ctx->half;
	ctx->out[6] = ctx->word;
	ctx->out[7] = __builtin_bswap64(ctx->a) ^ (s64)(s16)b ^ __builtin_bswap16((u16)b);
	return 0;
}

LICENSE;
