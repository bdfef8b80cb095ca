// Arguments six to twelve of every kind that kfuncs take, chains of functions that pass twelve, and calls in loops. The
// kfuncs are those of stackargs_test.go: without them a program returns -1.
#include "skep_test.h"

struct point {
	long x, y;
};

struct thing {
	u32 tag, uses;
	u64 sum;
};

extern long sum8(long a, long b, long c, long d, long e, long f, long g, long h) __ksym __weak;
extern long point6(long a, long b, long c, long d, long e, struct point *p) __ksym __weak;
extern long mixed(long a, long b, long c, long d, long e, struct point *p, long g, struct point *q) __ksym __weak;
extern long straddle(long a, long b, long c, long d, void *mem, u32 len) __ksym __weak;
extern long pairs(long a, long b, long c, long d, void *mem, u32 len, void *mem2, u64 len2, long i) __ksym __weak;
extern long nullable(long a, long b, long c, long d, long e, struct point *p, long g) __ksym __weak;
extern long ignored(long a, long b, long c, long d, long e, void *f, long g, long h) __ksym __weak;
extern long constant(long a, long b, long c, long d, long e, u32 f, u64 g) __ksym __weak;
extern struct thing *thing_get(long a, long b, long c, long d, long e, u32 tag) __ksym __weak;
extern void thing_put(long a, long b, long c, long d, long e, struct thing *t) __ksym __weak;
extern long widths(u8 a, s8 b, u16 c, s16 d, u32 e, s32 f, bool g, u8 h, s8 i, u16 j, s16 k, u32 l) __ksym __weak;
extern long scale(long a, long b, long c, long d, long e, struct point *p, long g) __ksym __weak;

// Calls a kfunc by its five arguments in registers; the others are stored before.
#define kfunc_call(f, a, b, c, d, e)                                                                                              \
	({                                                                                                                        \
		register long __r0 asm("r0"), __r1 asm("r1") = (long)(a), __r2 asm("r2") = (long)(b), __r3 asm("r3") = (long)(c), \
					      __r4 asm("r4") = (long)(d), __r5 asm("r5") = (long)(e);                             \
		asm volatile("call %[func]"                                                                                       \
			     : "=r"(__r0), "+r"(__r1), "+r"(__r2), "+r"(__r3), "+r"(__r4), "+r"(__r5)                             \
			     : [func] "i"(f)                                                                                      \
			     : "memory");                                                                                         \
		__r0;                                                                                                             \
	})

SEC("tc") __success int scalars(struct __sk_buff *ctx)
{
	long z = ctx->mark;

	if (!sum8)
		return -1;
	stack_arg_store(6, z + 6);
	stack_arg_store(7, z + 7);
	stack_arg_store(8, z + 8);
	return kfunc_call(sum8, z + 1, z + 2, z + 3, z + 4, z + 5);
}

SEC("tc") __success int struct_sixth(struct __sk_buff *ctx)
{
	struct point p = {10, 20};

	if (!point6)
		return -1;
	stack_arg_store(6, &p);
	return kfunc_call(point6, 1, 2, 3, 4, 5);
}

SEC("tc") __success int pointers_among(struct __sk_buff *ctx)
{
	struct point p = {4, 6}, q = {5, 15};

	if (!mixed)
		return -1;
	stack_arg_store(6, &p);
	stack_arg_store(7, 6);
	stack_arg_store(8, &q);
	return kfunc_call(mixed, 1, 2, 3, 4, 5);
}

// Memory in the last register, its length in the first slot.
SEC("tc") __success int memory_straddles(struct __sk_buff *ctx)
{
	u8 mem[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	long r;

	if (!straddle)
		return -1;
	stack_arg_store(6, 8);
	r = kfunc_call(straddle, 1, 2, 3, 4, mem);
	return 1000 * r + mem[0] + mem[7]; // the kfunc writes both
}

// Refused where the kfunc is there.
SEC("tc") int memory_too_long(struct __sk_buff *ctx)
{
	u8 mem[8] = {};

	if (!straddle)
		return -1;
	stack_arg_store(6, 9);
	return kfunc_call(straddle, 1, 2, 3, 4, mem);
}

SEC("tc") __success int memory_in_slots(struct __sk_buff *ctx)
{
	u8 mem[8] = {1, 2, 3, 4, 5, 6, 7, 8}, other[16] = {16, 15, 14};
	long r;

	if (!pairs)
		return -1;
	stack_arg_store(6, 8);
	stack_arg_store(7, other);
	stack_arg_store(8, ((ctx->mark & 7) + 16) & 31 & ~(long)15); // a length that is not in the instruction
	stack_arg_store(9, 100);
	r = kfunc_call(pairs, 1, 2, 3, 4, mem);
	return 1000 * r + mem[7] + other[15];
}

SEC("tc") __success int null_in_slot(struct __sk_buff *ctx)
{
	struct point p = {10, 20};
	long r;

	if (!nullable)
		return -1;
	stack_arg_store(6, 0);
	stack_arg_store(7, 7);
	r = kfunc_call(nullable, 1, 2, 3, 4, 5);
	stack_arg_store(6, &p);
	stack_arg_store(7, 7);
	return 1000 * r + kfunc_call(nullable, 1, 2, 3, 4, 5);
}

SEC("tc") __success int ignored_in_slots(struct __sk_buff *ctx)
{
	if (!ignored)
		return -1;
	stack_arg_store(6, ctx);
	stack_arg_store(7, 7);
	stack_arg_store(8, ctx);
	return kfunc_call(ignored, 1, 2, 3, 4, 5);
}

SEC("tc") __success int constant_in_slot(struct __sk_buff *ctx)
{
	if (!constant)
		return -1;
	stack_arg_store(6, 0x7fffffff);
	stack_arg_store(7, ctx->mark + 7);
	return kfunc_call(constant, 1, 2, 3, 4, 5) == 0x7fffffffL + 22 ? 22 : 0;
}

SEC("tc") __success int object_in_slot(struct __sk_buff *ctx)
{
	struct thing *t;
	long tag;

	if (!thing_get || !thing_put)
		return -1;
	stack_arg_store(6, 4711);
	t = (void *)kfunc_call(thing_get, 1, 2, 3, 4, 5);
	if (!t)
		return -2;
	tag = t->tag;
	stack_arg_store(6, t);
	kfunc_call(thing_put, 1, 2, 3, 4, 5);
	return tag;
}

// Refused where the kfunc is there.
SEC("tc") int object_leaks(struct __sk_buff *ctx)
{
	struct thing *t;

	if (!thing_get)
		return -1;
	stack_arg_store(6, 4711);
	t = (void *)kfunc_call(thing_get, 1, 2, 3, 4, 5);
	return t ? t->tag : -2;
}

// Every argument has bits above its type.
SEC("tc") __success int garbage_above(struct __sk_buff *ctx)
{
	long g = 0x123456789a000000L + ctx->mark;

	if (!widths)
		return -1;
	stack_arg_store(6, (g << 8) | 0x80000000);
	stack_arg_store(7, (g & ~0xffL) | 1);
	stack_arg_store(8, g | 0xff);
	stack_arg_store(9, g | 0x80);
	stack_arg_store(10, g | 0xfffe);
	stack_arg_store(11, g | 0x8001);
	stack_arg_store(12, -1);
	return kfunc_call(widths, g | 0xfe, g | 0xff, g | 0xffff, g | 0xffff, g | 0xffffffff);
}

static __noinline long sum12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l)
{
	long s = stack_arg_load(6) + 2 * stack_arg_load(7) + 3 * stack_arg_load(8) + 4 * stack_arg_load(9) + 5 * stack_arg_load(10) +
		 6 * stack_arg_load(11) + 7 * stack_arg_load(12);

	return a + b + c + d + e + s;
}

static __noinline long sum7(long a, long b, long c, long d, long e, long f, long g)
{
	long s = stack_arg_load(6) - stack_arg_load(7);

	return a + b + c + d + e + s;
}

// Two functions and two kfuncs of different counts from one caller, and a value of each kept over the next.
SEC("tc") __success int four_callees(struct __sk_buff *ctx)
{
	struct point p = {1, 1};
	long z = ctx->mark, r;

	if (!sum8 || !point6)
		return -1;
	stack_arg_store(6, z + 60);
	stack_arg_store(7, 7);
	r = sum7(z + 1, z + 2, z + 3, z + 4, z + 5, 0, 0); // 68
	stack_arg_store(6, 1);
	stack_arg_store(7, 1);
	stack_arg_store(8, 1);
	stack_arg_store(9, 1);
	stack_arg_store(10, 1);
	stack_arg_store(11, r);
	stack_arg_store(12, 1);
	r = sum12(r, z, z, z, z, 0, 0, 0, 0, 0, 0, 0); // 68 + 22 + 6 * 68 = 498
	stack_arg_store(6, r);
	stack_arg_store(7, r);
	stack_arg_store(8, r);
	r += kfunc_call(sum8, r, r, r, r, r); // 9 * 498 = 4482
	stack_arg_store(6, &p);
	return r + kfunc_call(point6, 1, 2, 3, 4, r); // 2 * 4482 + 10 + 2
}

SEC("tc") __success __retval(3375) int call_in_loop(struct __sk_buff *ctx)
{
	long r = 0, one = ctx->mark + 1;

	for (long i = 0; i < 50; i++) {
		stack_arg_store(6, i);
		stack_arg_store(7, -i);
		stack_arg_store(8, one);
		stack_arg_store(9, i);
		stack_arg_store(10, -1);
		stack_arg_store(11, -i);
		stack_arg_store(12, i);
		// i - 2i + 3 + 4i - 5 - 6i + 7i = 4i - 2 and the five in registers
		r += sum12(one, one, one, one, -2 * i, 0, 0, 0, 0, 0, 0, 0); // 2i + 2
		r += i == 0 ? 825 : 0;
	}
	return r; // 2450 + 100 + 825
}

// Eight frames, each of which passes on twelve arguments, plus one each.
#define LINK(name, callee)                                                                                                       \
	static __noinline long name(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) \
	{                                                                                                                        \
		long s6 = stack_arg_load(6), s7 = stack_arg_load(7), s8 = stack_arg_load(8), s9 = stack_arg_load(9),             \
		     s10 = stack_arg_load(10), s11 = stack_arg_load(11), s12 = stack_arg_load(12);                               \
                                                                                                                                 \
		stack_arg_store(6, s6 + 1);                                                                                      \
		stack_arg_store(7, s7 + 1);                                                                                      \
		stack_arg_store(8, s8 + 1);                                                                                      \
		stack_arg_store(9, s9 + 1);                                                                                      \
		stack_arg_store(10, s10 + 1);                                                                                    \
		stack_arg_store(11, s11 + 1);                                                                                    \
		stack_arg_store(12, s12 + 1);                                                                                    \
		return callee(a + 1, b + 1, c + 1, d + 1, e + 1, 0, 0, 0, 0, 0, 0, 0) + s6 - s12;                                \
	}
LINK(link7, sum12)
LINK(link6, link7)
LINK(link5, link6)
LINK(link4, link5)
LINK(link3, link4)
LINK(link2, link3)

// sum12 gets each value plus 6: 15 + 30 + (6 + 14 + 24 + 36 + 50 + 66 + 84) + 6 * 28 = 493, and each link takes off 6.
SEC("tc") __success __retval(457) int eight_frames(struct __sk_buff *ctx)
{
	long z = ctx->mark;

	stack_arg_store(6, z + 6);
	stack_arg_store(7, z + 7);
	stack_arg_store(8, z + 8);
	stack_arg_store(9, z + 9);
	stack_arg_store(10, z + 10);
	stack_arg_store(11, z + 11);
	stack_arg_store(12, z + 12);
	return link2(z + 1, z + 2, z + 3, z + 4, z + 5, 0, 0, 0, 0, 0, 0, 0);
}

// A pointer to the caller's stack in a slot: the callee writes there.
static __noinline long write_through(long a, long b, long c, long d, long e, long *f)
{
	long *p;

	asm volatile("%0 = *(u64 *)(r11 + 8)" : "=r"(p));
	p[0] += a;
	p[1] = b + c;
	return d + e;
}

SEC("tc") __success __retval(1110) int stack_through_slot(struct __sk_buff *ctx)
{
	long v[2] = {100, 0}, z = ctx->mark, r;

	asm volatile("" : : "r"(v) : "memory");
	stack_arg_store(6, v);
	r = write_through(z + 7, z + 1, z + 2, z + 400, z + 600, 0);
	return v[0] + v[1] + r;
}

// What divisions, shifts, atomics and lookups use in machine code is not what arguments travel in.
u64 counter = 5;

SEC("tc") __success int work_between(struct __sk_buff *ctx)
{
	struct point p = {2, 3};
	u64 n = ctx->len, old, q;

	if (!scale)
		return -1;
	stack_arg_store(6, &p);
	asm volatile("" : "+r"(n));
	q = 1000000 / n;
	q += (1000000ULL % n) << (n & 7);
	asm volatile("" : "+r"(q));
	stack_arg_store(7, 9);
	old = __sync_fetch_and_or(&counter, 8);
	old += (s64)q >> (n & 3);
	asm volatile("" : "+r"(old));
	q = 77777 / (old | 1);
	return kfunc_call(scale, q, old, n, 4, 5) & 0x7fffffff;
}

LICENSE;
