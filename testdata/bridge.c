// Functions and kfuncs of six to twelve parameters with include/skep/bpf_stack_args.h, which is what users write. Each weighs its
// arguments by their numbers, so that one in another's place shows.
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

SKEP_FUNC(long, f6, long, a, long, b, long, c, long, d, long, e, long, f)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f;
}

SKEP_FUNC(long, f7, long, a, long, b, long, c, long, d, long, e, long, f, long, g)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g;
}

SKEP_FUNC(long, f8, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

SKEP_FUNC(long, f9, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i;
}

SKEP_FUNC(long, f10, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

SKEP_FUNC(long, f11, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k;
}

SKEP_FUNC(long, f12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;
}

// With n arguments of 1 to n the sum is that of the first n squares: 91, 140, 204, 285, 385, 506, 650.
SEC("tc") __success __retval(91) int func6(struct __sk_buff *ctx) { return SKEP_CALL(f6, 1, 2, 3, 4, 5, 6); }
SEC("tc") __success __retval(140) int func7(struct __sk_buff *ctx) { return SKEP_CALL(f7, 1, 2, 3, 4, 5, 6, 7); }
SEC("tc") __success __retval(204) int func8(struct __sk_buff *ctx) { return SKEP_CALL(f8, 1, 2, 3, 4, 5, 6, 7, 8); }
SEC("tc") __success __retval(285) int func9(struct __sk_buff *ctx) { return SKEP_CALL(f9, 1, 2, 3, 4, 5, 6, 7, 8, 9); }
SEC("tc") __success __retval(385) int func10(struct __sk_buff *ctx) { return SKEP_CALL(f10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10); }
SEC("tc") __success __retval(506) int func11(struct __sk_buff *ctx) { return SKEP_CALL(f11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11); }
SEC("tc") __success __retval(650) int func12(struct __sk_buff *ctx) { return SKEP_CALL(f12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12); }

// Calls in the arguments of calls: the inner ones happen first, whichever argument they are.
SEC("tc") __success __retval(1836) int nested(struct __sk_buff *ctx)
{
	// 91 + 2 + 3 + 4 + 5 + 6 + 7 * 140 + 8 + 9 + 10 + 11 + 12 + 8 * 91 - 35 + 2
	return SKEP_CALL(f8, SKEP_CALL(f6, 1, 2, 3, 4, 5, 6), 1, 1, 1, 1, SKEP_CALL(f6, 0, 0, 0, 0, 0, 1) - 5,
			 SKEP_CALL(f7, 1, 2, 3, 4, 5, 6, 7), SKEP_CALL(f6, 1, 2, 3, 4, 5, 6)) + 17;
}

// sum over i < 40 of i * (1 + 2*2 + ... + 12*12)... with each argument i times its number.
SEC("tc") __success __retval(507000) int in_loop(struct __sk_buff *ctx)
{
	long sum = 0;

	for (long i = 0; i < 40; i++)
		sum += SKEP_CALL(f12, i, 2 * i, 3 * i, 4 * i, 5 * i, 6 * i, 7 * i, 8 * i, 9 * i, 10 * i, 11 * i, 12 * i);
	return sum;
}

// A chain of functions that pass on what they got, first declared and then defined.
SKEP_DECL(long, last, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h);

SKEP_FUNC(long, middle, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h)
{
	return SKEP_CALL(last, h, g, f, e, d, c, b, a) + 1000 * f;
}

SKEP_FUNC(long, last, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h)
{
	return SKEP_CALL(f8, a + 1, b, c, d, e, f, g, h) + 10000 * g;
}

// last gets 8, 7, ... 1: 120 + 1, and 10000 * 2, and 1000 * 6.
SEC("tc") __success __retval(26121) int forwarded(struct __sk_buff *ctx) { return SKEP_CALL(middle, 1, 2, 3, 4, 5, 6, 7, 8); }

// Every width, in registers and in slots; arguments are converted to it.
SKEP_FUNC(long, narrow, u8, a, s8, b, u16, c, s16, d, bool, e, u8, f, s8, g, u16, h, s16, i, u32, j, s32, k, bool, l)
{
	return a + b + c + d + e + f + g + h + i + (long)j + k + l;
}

u64 wide = 0x1234567887654321;

SEC("tc") __success int conversions(struct __sk_buff *ctx)
{
	u64 v = wide ^ 0x80808080;

	return SKEP_CALL(narrow, v, v, v, v, v, v, v, v, v, v, v, v) & 0x7fffffff;
}

// Pointers in both, one of them to memory of the caller that is written, and a result that is a pointer.
struct point {
	long x, y;
};

SKEP_FUNC(void, move, struct point *, p, long, dx, long, dy, long, fx, long, fy, const struct point *, by, struct point *, old)
{
	*old = *p;
	p->x = fx * p->x + dx + by->x;
	p->y = fy * p->y + dy + by->y;
}

SKEP_FUNC(struct point *, larger, struct point *, p, long, b, long, c, long, d, long, e, struct point *, q)
{
	return p->x + p->y > q->x + q->y ? p : q;
}

struct point global = {3, 4};

SEC("tc") __success __retval(211807) int pointers(struct __sk_buff *ctx)
{
	struct point p = {5, 6}, by = {100, 200}, old;

	SKEP_CALL(move, &p, 1, 2, 3, 4, &by, &old); // 116, 226
	return 1000 * (p.x - (p.y >> 1) + SKEP_CALL(larger, &global, 0, 0, 0, 0, &global)->x + 205) + p.y * 3 + 18 + old.x * old.x +
	       old.y * old.y + 50;
}

// Arguments that nothing uses keep the others where they are.
SKEP_FUNC(long, picky, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h)
{
	return 100 * b + 10 * e + g;
}

SEC("tc") __success __retval(257) int unused(struct __sk_buff *ctx) { return SKEP_CALL(picky, 1, 2, 3, 4, 5, 6, 7, 8); }

// Results that nothing uses, and one that is always the same.
SKEP_FUNC(int, always7, long, a, long, b, long, c, long, d, long, e, u64 *, f)
{
	*f += a + b + c + d + e;
	return 7;
}

u64 total;

SEC("tc") __success __retval(37) int results(struct __sk_buff *ctx)
{
	total = 0;
	SKEP_CALL(always7, 1, 2, 3, 4, 5, &total);
	return SKEP_CALL(always7, 1, 2, 3, 4, 5, &total) + total;
}

SKEP_KFUNC(long, k6, long, a, long, b, long, c, long, d, long, e, long, f);
SKEP_KFUNC(long, k7, long, a, long, b, long, c, long, d, long, e, long, f, long, g);
SKEP_KFUNC(long, k8, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h);
SKEP_KFUNC(long, k9, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i);
SKEP_KFUNC(long, k10, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j);
SKEP_KFUNC(long, k11, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k);
SKEP_KFUNC(long, k12, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j, long, k, long, l);
SKEP_KFUNC(bool, knarrow, u8, a, s8, b, u16, c, s16, d, u32, e, s32, f, bool, g, u8, h, s8, i, u16, j, s16, k, u32, l);
SKEP_KFUNC(void, kpoint, long, a, long, b, long, c, long, d, long, e, struct point *, p, u8, g, struct point *, q);

// All kfuncs, the sums of the first squares, in one program: 91 + 140 + 204 + 285 + 385 + 506 + 650.
SEC("tc") __success int kfuncs(struct __sk_buff *ctx)
{
	long sum = 0;

	if (!k6 || !k7 || !k8 || !k9 || !k10 || !k11 || !k12)
		return -1;
	sum += SKEP_CALL(k6, 1, 2, 3, 4, 5, 6);
	sum += SKEP_CALL(k7, 1, 2, 3, 4, 5, 6, 7);
	sum += SKEP_CALL(k8, 1, 2, 3, 4, 5, 6, 7, 8);
	sum += SKEP_CALL(k9, 1, 2, 3, 4, 5, 6, 7, 8, 9);
	sum += SKEP_CALL(k10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
	sum += SKEP_CALL(k11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
	return sum + SKEP_CALL(k12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
}

// Calls of kfuncs and functions in each other's arguments, in a loop.
SEC("tc") __success int kfuncs_nested(struct __sk_buff *ctx)
{
	long sum = 0;

	if (!k6 || !k12)
		return -1;
	for (long i = 0; i < 10; i++)
		sum += SKEP_CALL(k12, i, 0, 0, 0, SKEP_CALL(f7, 0, 0, 0, 0, 0, i, 0), 0, 0, 0, 0, 0, SKEP_CALL(k6, 0, 0, 0, 0, 0, i), 1);
	return sum; // of i + 5 * 6i + 11 * 6i + 12
}

SEC("tc") __success int kfuncs_typed(struct __sk_buff *ctx)
{
	struct point p = {1, 2}, q = {30, 40};
	u64 v = wide ^ 0x80808080;

	if (!knarrow || !kpoint)
		return -1;
	if (!SKEP_CALL(knarrow, v, v, v, v, v, v, v, v, v, v, v, v))
		return -2;
	SKEP_CALL(kpoint, 1, 2, 3, 4, 5, &p, v, &q);
	return 1000 * p.x + p.y + q.x + q.y;
}

LICENSE;
