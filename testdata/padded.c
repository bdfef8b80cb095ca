// Functions with gaps between them in one section: readers that count instructions instead of using offsets put source
// lines, prototypes and CO-RE relocations on the wrong instructions from the second function on.
#include "skep_test.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct skep_core {
	u32 first;
	u64 moved;
};
#pragma clang attribute pop

#define __padded __attribute__((aligned(256)))

static __noinline __padded int add_one(u32 v)
{
	return v + 1; // in add_one
}

static __noinline __padded int offset_of_moved(u32 v)
{
	struct skep_core *s = (void *)0;

	return v + __builtin_preserve_field_info(s->moved, 0); // in offset_of_moved
}

static __noinline __padded int twice(u32 v)
{
	return 2 * v; // in twice
}

SEC("socket") __success __btf_path("core_target.o") __retval(34) int padded(struct __sk_buff *ctx)
{
	return twice(offset_of_moved(add_one(ctx->mark)));
}

LICENSE;
