// Plug-ins of an application: programs for a hook of its own (hook_test.go has the same structure in Go).
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

struct peer {
	u8 addr[16];
	u16 port;
	u16 family;
	u32 secret;
};

struct request {
	void *data;
	void *data_end;
	u64 size;
	struct peer peer;
	u32 method;
	s32 score;
	u32 seen;
	u32 tag;
};

struct {
	__uint(type, 2); // array
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

SKEP_KFUNC(int, judge, u32, a, u32, b, u32, c, u32, d, u32, e, u32, f, u32, g, u32, h, u32, i, u32, j, u32, k, u32, l);

// The bytes of the packet, added up; what is known of the request, judged by the application with twelve arguments.
SEC("app/request") int admit(struct request *r)
{
	u8 *p = r->data;
	u32 sum = 0, key = r->method & 3;
	u64 *n;

	for (int i = 0; i < 8; i++) {
		if (p + i + 1 > (u8 *)r->data_end)
			break;
		sum += p[i];
	}
	n = bpf_map_lookup_elem(&counts, &key);
	if (n)
		*n += 1;
	r->score += sum;
	r->seen++;
	return SKEP_CALL(judge, r->peer.port, r->peer.family, r->method, sum, 5, 6, 7, 8, 9, 10, 11, r->peer.addr[15]) & 1;
}

SEC("app/request/deny") int deny(struct request *r)
{
	return r->size > 100 ? -1 : 0;
}

SEC("app/other") int other(void *ctx)
{
	return 0;
}

// The same request as an older version of the application had it: the fields are found by name.
struct request___old {
	u32 method;
	s32 score;
} __attribute__((preserve_access_index));

SEC("app/moved") int moved(struct request___old *r)
{
	return r->method + r->score;
}

LICENSE;
