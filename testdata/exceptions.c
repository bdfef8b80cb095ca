// Exceptions: programs that throw, with a callback of their own that nothing refers to but a tag, and without. Runs of `skep test` have
// 64 bytes of packet and a mark of 0.
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

static long (*const bpf_loop)(u32 nr_loops, void *callback, void *ctx, u64 flags) = (void *)181;

extern void bpf_throw(u64 cookie) __ksym;

#define __exception_cb(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

static __noinline int doubled(u64 n)
{
	return n * 2;
}

__noinline int caught(u64 cookie)
{
	return doubled(cookie) + 1;
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

SEC("tc") __success __retval(64) __exception_cb(caught) int throws_to_callback(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

SEC("tc") __success __retval(64) __exception_cb(other) int throws_to_other(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

SEC("tc") __success __retval(64) int throws(struct __sk_buff *ctx)
{
	return checked(ctx->len);
}

SEC("tc") __success __retval(300) int throw_in_main(struct __sk_buff *ctx)
{
	if (!ctx->mark)
		bpf_throw(300);
	return 1;
}

SEC("tc") __success __retval(601) __exception_cb(caught) int throw_in_main_to_callback(struct __sk_buff *ctx)
{
	if (!ctx->mark)
		bpf_throw(300);
	return checked(ctx->len);
}

// The result is the lower half of the number.
SEC("tc") __success __retval(7) int throw_wide(struct __sk_buff *ctx)
{
	bpf_throw(0x900000007);
	return 0;
}

// Each of these keeps values over its calls, in registers and on its stack.
static __noinline int third(u32 a, u32 b, u32 c)
{
	u32 r = checked(a + b);

	return r + checked(b + c) * c;
}

static __noinline int second(u32 a, u32 b)
{
	volatile u32 kept[8] = {[3] = a};
	u32 r = third(a, b, 3), s = third(b, a, 5);

	return r + s + kept[3] + a * b;
}

__noinline int first(u32 a)
{
	u32 r = second(a, 10);

	return r * 2 + second(a, 20) + a;
}

SEC("tc") __success __retval(1602) int deep_returns(struct __sk_buff *ctx)
{
	return first(ctx->len - 44);
}

SEC("tc") __success __retval(104) int deep_throws(struct __sk_buff *ctx)
{
	return first(ctx->len + 20) + 1;
}

SEC("tc") __success __retval(209) __exception_cb(caught) int deep_throws_to_callback(struct __sk_buff *ctx)
{
	return first(ctx->len + 20) + 1;
}

// A function without a result throws as well.
static __noinline void no_result(u64 n)
{
	if (n)
		bpf_throw(n);
}

SEC("tc") __success __retval(65) int void_throws(struct __sk_buff *ctx)
{
	no_result(ctx->mark);
	no_result(ctx->len + 1);
	return 0;
}

static long add(u64 i, u64 *sum)
{
	*sum += i;
	return 0;
}

static __noinline int sums_and_throws(u32 n)
{
	u64 sum = 0;

	bpf_loop(n, add, &sum, 0);
	if (sum > 1000)
		bpf_throw(sum);
	return sum;
}

// Throws before and after loops with a callback.
SEC("tc") __success __retval(4033) __exception_cb(caught) int throw_after_loop(struct __sk_buff *ctx)
{
	u32 sum = 0, i;

	for (i = 0; i < 4; i++)
		sum += sums_and_throws(ctx->len - 60 + 0 * i);
	if (sum != 24)
		return -1;
	return sums_and_throws(ctx->len) + 1;
}

static long throwing(u64 i, u64 *sum)
{
	if (i == 3)
		bpf_throw(i);
	return 0;
}

SEC("tc") __failure __msg("cannot be called from callback subprog") int throw_in_callback(struct __sk_buff *ctx)
{
	u64 sum = 0;

	return bpf_loop(5, throwing, &sum, 0);
}

SKEP_FUNC(long, weigh12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l)
{
	long sum = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;

	if (l > 100)
		bpf_throw(sum);
	return sum;
}

// Calls a function of twelve arguments, and hands on what it throws.
SKEP_FUNC(long, between, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h)
{
	long r = SKEP_CALL(weigh12, a, b, c, d, e, f, g, h, 9, 10, 11, a);

	return r + SKEP_CALL(weigh12, h, g, f, e, d, c, b, a, 9, 10, 11, h) + h;
}

// 650 = 1 + 2 * 2 + ... + 12 * 12; the last argument is the length then, and heavier by 12 * (164 - 12).
SEC("tc") __success __retval(2474) int throw_from_many(struct __sk_buff *ctx)
{
	return SKEP_CALL(weigh12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ctx->len + 100);
}

SEC("tc") __success __retval(4949) __exception_cb(caught) int throw_from_many_to_callback(struct __sk_buff *ctx)
{
	return SKEP_CALL(weigh12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ctx->len + 100);
}

SEC("tc") __success __retval(650) int throw_after_many(struct __sk_buff *ctx)
{
	bpf_throw(SKEP_CALL(weigh12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ctx->mark + 12));
	return 0;
}

SEC("tc") __success __retval(2546) int throw_through_many(struct __sk_buff *ctx)
{
	return SKEP_CALL(between, ctx->mark + 1, 2, 3, 4, 5, 6, 7, ctx->len + 100);
}

SEC("tc") __success __retval(1044) int many_return(struct __sk_buff *ctx)
{
	return SKEP_CALL(between, ctx->mark + 1, 2, 3, 4, 5, 6, 7, 8);
}

// A program that is entered by a tail call returns to its own caller, whatever it throws.
int target(struct __sk_buff *ctx);
int target_in_main(struct __sk_buff *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(struct __sk_buff *));
} chain SEC(".maps") = {.values = {[0] = &target, [1] = &target_in_main}};

SEC("tc") __success __retval(33) __exception_cb(caught) int target(struct __sk_buff *ctx)
{
	no_result(ctx->mark + 16);
	return 0;
}

SEC("tc") __success __retval(5) int target_in_main(struct __sk_buff *ctx)
{
	bpf_throw(5);
	return 0;
}

static __noinline int leaves(struct __sk_buff *ctx, u32 to)
{
	int ret = -1;

	bpf_tail_call(ctx, &chain, to);
	asm volatile("" : "+r"(ret)); // or the compiler takes -1 for the result
	return ret;
}

SEC("tc") __success __retval(33) __exception_cb(other) int tail_calls(struct __sk_buff *ctx)
{
	no_result(ctx->mark);
	bpf_tail_call(ctx, &chain, 0);
	return -1;
}

// 33 and 5 are results of calls here; the throw is this program's own.
SEC("tc") __success __retval(1077) __exception_cb(caught) int tail_calls_deep(struct __sk_buff *ctx)
{
	int a = leaves(ctx, 0), b = leaves(ctx, 1);

	no_result(a * 16 + b * 2);
	return 0;
}

LICENSE;
