// Native kfuncs in the platform's C convention. stackargs_native_test.go makes a library of this file with each compiler at -O2,
// and takes nothing but its code and constants: no data, no calls, no other libraries.

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

// The functions check6..check12 hold each argument against what the test passes. They return 0, or a bit for each argument that is
// another (1 for the first) and, from bit 16 on, by how much the frame is not aligned.
#define P6 u8 a, s8 b, u16 c, s16 d, u32 e, s32 f
#define P7 P6, u64 g
#define P8 P7, _Bool h
#define P9 P8, s8 i
#define P10 P9, u16 j
#define P11 P10, s32 k
#define P12 P11, s64 l

#define WRONG(bit, v, want) wrong |= (u64)((v) != (want)) << (bit)
#define C6 WRONG(0, a, 0xfe), WRONG(1, b, -2), WRONG(2, c, 0xfedc), WRONG(3, d, -300), WRONG(4, e, 0xfedcba98), WRONG(5, f, -70000)
#define C7 C6, WRONG(6, g, 0x123456789abcdef0)
#define C8 C7, WRONG(7, h, 1)
#define C9 C8, WRONG(8, i, -3)
#define C10 C9, WRONG(9, j, 0xabcd)
#define C11 C10, WRONG(10, k, -5)
#define C12 C11, WRONG(11, l, -0x7ffffffffffffff0)

#define CHECK(n)                                                                                  \
	u64 check##n(P##n)                                                                        \
	{                                                                                         \
		u64 wrong = 0;                                                                    \
		volatile v2 x = {0, (s64)(u64)__builtin_frame_address(0)};                         \
		v2 y = x;                                                                         \
                                                                                                  \
		C##n;                                                                             \
		return wrong | (u64)y[1] % 16 << 16;                                              \
	}

CHECK(6)
CHECK(7)
CHECK(8)
CHECK(9)
CHECK(10)
CHECK(11)
CHECK(12)
