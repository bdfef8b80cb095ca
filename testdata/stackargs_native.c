// Native kfuncs in the platform's C convention. stackargs_native_test.go compiles this file with gcc -O2 and takes nothing but
// its .text: no data, no calls, no libraries.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef signed short s16;
typedef signed int s32;
typedef signed long long s64;
typedef long long v2 __attribute__((vector_size(16)));

#define MIX(v) h = (h ^ (u64)(s64)(v)) * 0x100000001b3ULL

// All 64 bits of every argument, whatever types the program declares.
u64 hash12(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h1, u64 i, u64 j, u64 k, u64 l)
{
	u64 h = 0xcbf29ce484222325ULL;

	MIX(a), MIX(b), MIX(c), MIX(d), MIX(e), MIX(f), MIX(g), MIX(h1), MIX(i), MIX(j), MIX(k), MIX(l);
	return h;
}

// The same, as the types are.
u64 hash_mixed(u8 a, s8 b, u16 c, s16 d, u32 e, s32 f, _Bool g, u8 h1, s8 i, u16 j, s16 k, u32 l)
{
	u64 h = 0xcbf29ce484222325ULL;

	MIX(a), MIX(b), MIX(c), MIX(d), MIX(e), MIX(f), MIX(g), MIX(h1), MIX(i), MIX(j), MIX(k), MIX(l);
	return h;
}

// Returns its last argument with all its bits: what is above the declared result is the caller's to clear.
u64 last(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g)
{
	return g;
}

// The functions align0..align12 return 1 + 2a + 3b + ..., and use aligned vectors on the stack as any C code may: the processor
// faults where rsp is not a multiple of 16. What they return is something else if the frame is not aligned.
#define SUM(n, v) s += ((n) + 1) * (v)
#define ALIGNED                                                                                   \
	({                                                                                        \
		volatile v2 x = {(s64)s, (s64)(u64)__builtin_frame_address(0)};                    \
		v2 y = x;                                                                         \
		(u64)y[1] % 16 ? 0xdead0000 + (u64)y[1] % 16 : (u64)y[0];                          \
	})

u64 align0(void)
{
	u64 s = 1;

	return ALIGNED;
}

u64 align1(u64 a)
{
	u64 s = 1;

	SUM(1, a);
	return ALIGNED;
}

u64 align2(u64 a, u64 b)
{
	u64 s = 1;

	SUM(1, a), SUM(2, b);
	return ALIGNED;
}

u64 align3(u64 a, u64 b, u64 c)
{
	u64 s = 1;

	SUM(1, a), SUM(2, b), SUM(3, c);
	return ALIGNED;
}

u64 align4(u64 a, u64 b, u64 c, u64 d)
{
	u64 s = 1;

	SUM(1, a), SUM(2, b), SUM(3, c), SUM(4, d);
	return ALIGNED;
}

#define FIVE SUM(1, a), SUM(2, b), SUM(3, c), SUM(4, d), SUM(5, e)

u64 align5(u64 a, u64 b, u64 c, u64 d, u64 e)
{
	u64 s = 1;

	FIVE;
	return ALIGNED;
}

u64 align6(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	u64 s = 1;

	FIVE, SUM(6, f);
	return ALIGNED;
}

u64 align7(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g);
	return ALIGNED;
}

u64 align8(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g), SUM(8, h);
	return ALIGNED;
}

u64 align9(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g), SUM(8, h), SUM(9, i);
	return ALIGNED;
}

u64 align10(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g), SUM(8, h), SUM(9, i), SUM(10, j);
	return ALIGNED;
}

u64 align11(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j, u64 k)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g), SUM(8, h), SUM(9, i), SUM(10, j), SUM(11, k);
	return ALIGNED;
}

u64 align12(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j, u64 k, u64 l)
{
	u64 s = 1;

	FIVE, SUM(6, f), SUM(7, g), SUM(8, h), SUM(9, i), SUM(10, j), SUM(11, k), SUM(12, l);
	return ALIGNED;
}
