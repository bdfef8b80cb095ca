// Exceptions: programs that throw, with a callback of their own that nothing refers to but a tag, and without.
#include "skep_test.h"

extern void bpf_throw(u64 cookie) __ksym;

#define __exception_cb(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

static __noinline int doubled(u64 n)
{
	return n * 2;
}

__noinline int caught(u64 cookie)
{
	return doubled(cookie) & 1;
}

__noinline int other(u64 cookie)
{
	return 1;
}

static __noinline int checked(u32 len)
{
	if (len > 100)
		bpf_throw(len);
	return len;
}

SEC("tc") __exception_cb(caught) int throws_to_callback(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

SEC("tc") __exception_cb(other) int throws_to_other(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

SEC("tc") int throws(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

LICENSE;
