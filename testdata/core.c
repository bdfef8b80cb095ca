// CO-RE: offsets and existence of fields by the BTF that the program is loaded against (core_target.c in the tests).
#include "skep_test.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct skep_core {
	u32 first;
	u64 moved;
	u32 gone;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u8[64]);
} memory SEC(".maps");

#define exists(field) __builtin_preserve_field_info(field, 2)
#define offset(field) __builtin_preserve_field_info(field, 0)

SEC("socket") __success __btf_path("core_target.o") __retval(16) int moved_offset(struct __sk_buff *ctx)
{
	struct skep_core *s = (void *)0;

	if (!exists(s->moved))
		return -1;
	return offset(s->moved);
}

SEC("socket") __success __btf_path("core_target.o") __retval(0) int gone_exists(struct __sk_buff *ctx)
{
	struct skep_core *s = (void *)0;

	return exists(s->gone);
}

SEC("socket") __success __btf_path("core_target.o") __retval(0) int load_moved(struct __sk_buff *ctx)
{
	u32 zero = 0;
	struct skep_core *s = bpf_map_lookup_elem(&memory, &zero);

	if (!s || !exists(s->moved))
		return -1;
	return s->moved;
}

LICENSE;
