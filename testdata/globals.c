// Global variables in .rodata, .data and .bss, set and read from Go.
#include "skep_test.h"

const volatile u32 limit = 10;
const volatile char name[8] = "skep";
u64 start = 5;
u32 runs;
static u32 table[4] = {1, 2, 3, 4};
int array[16];

SEC("socket") __success __retval(22) int use(struct __sk_buff *ctx)
{
	u64 sum = start;

	runs++;
	for (u32 i = 0; i < 4; i++)
		sum += table[i];
	array[runs & 15] = sum;
	table[ctx->len & 3]++;
	if (sum > limit && name[0] == 's')
		sum += 7;
	return sum;
}

// The other branch is dead: a read-only map's value is known.
SEC("socket") __success __retval(1) int dead_branch(struct __sk_buff *ctx)
{
	if (limit != 10)
		return *(volatile int *)ctx;
	return 1;
}

LICENSE;
