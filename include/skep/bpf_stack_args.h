/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions and kfuncs of six to twelve parameters in BPF programs, for every compiler.
 *
 * clang 14 to 22 refuse more than five parameters. With this header they compile what its macros define and call; a compiler
 * that knows stack arguments (it defines __BPF_FEATURE_STACK_ARGUMENT) gets plain C from the same source. Needs -O1 or more.
 *
 *	#include <skep/bpf_stack_args.h>
 *
 *	// A function: its result, its name, then type and name of each parameter. It is static and never inlined.
 *	SKEP_FUNC(long, checksum, void *, data, void *, end, u32, seed, u16, from, u16, to, u8, proto, long *, out)
 *	{
 *		*out = seed + proto;
 *		return to - from;
 *	}
 *
 *	// A kfunc: a weak extern symbol, so that a program can ask whether it is there.
 *	SKEP_KFUNC(long, account, u32, src, u32, dst, u16, sport, u16, dport, u8, proto, u64, bytes);
 *
 *	if (account)
 *		SKEP_CALL(account, src, dst, sport, dport, 6, bytes);
 *	n = SKEP_CALL(checksum, data, end, 1, 2, 3, 4, &out);
 *
 * SKEP_CALL is checked and converts its arguments as any call in C. SKEP_DECL declares a function before its definition.
 * Functions of up to five parameters are plain C and are refused here, as are parameters that no register can hold.
 * A type that is not written before a name (an array, a pointer to a function) needs a typedef, and an unnamed struct a name.
 */
#ifndef SKEP_BPF_STACK_ARGS_H
#define SKEP_BPF_STACK_ARGS_H

/* SKEP_FUNC begins the definition of a function; its body follows. */
#define SKEP_FUNC(ret, name, ...) __skep_use(__skep_func, ret, name, __VA_ARGS__)

/* SKEP_DECL declares a function that a SKEP_FUNC of the same types defines further down. */
#define SKEP_DECL(ret, name, ...) __skep_use(__skep_decl, ret, name, __VA_ARGS__)

/* SKEP_KFUNC declares a kfunc. */
#define SKEP_KFUNC(ret, name, ...) __skep_use(__skep_kfunc, ret, name, __VA_ARGS__)

/* SKEP_CALL calls a function or kfunc that one of the macros above declared. */
#ifdef __BPF_FEATURE_STACK_ARGUMENT
#define SKEP_CALL(name, ...) name(__VA_ARGS__)
#else
#define SKEP_CALL(name, ...) name##__call(__VA_ARGS__)
#endif

/*
 * Everything below is how it is done. __skep_use counts what stands in a list of types and names and hands it to a macro
 * together with __skep_each1 to __skep_each7, which goes through the parameters from the sixth on; or it says what is wrong.
 */
#define __skep_use(how, ret, name, ...) __skep_cat(__skep_with_, __skep_count(__VA_ARGS__))(how, ret, name, __VA_ARGS__)
#define __skep_cat(a, b) __skep_cat1(a, b)
#define __skep_cat1(a, b) a##b
#define __skep_count(...)                                                                                                        \
	__skep_nth(__VA_ARGS__, many, many, many, many, many, many, many, many, 12, odd, 11, odd, 10, odd, 9, odd, 8, odd, 7, odd, \
		   6, odd, few, odd, few, odd, few, odd, few, odd, few, odd, 0)
#define __skep_nth(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24, \
		   a25, a26, a27, a28, a29, a30, a31, a32, n, ...)                                                               \
	n
#define __skep_with_6(how, ...) how(__skep_each1, __VA_ARGS__)
#define __skep_with_7(how, ...) how(__skep_each2, __VA_ARGS__)
#define __skep_with_8(how, ...) how(__skep_each3, __VA_ARGS__)
#define __skep_with_9(how, ...) how(__skep_each4, __VA_ARGS__)
#define __skep_with_10(how, ...) how(__skep_each5, __VA_ARGS__)
#define __skep_with_11(how, ...) how(__skep_each6, __VA_ARGS__)
#define __skep_with_12(how, ...) how(__skep_each7, __VA_ARGS__)
#define __skep_with_few(how, ret, name, ...) __skep_wrong(ret, name, "a function of up to five parameters is plain C")
#define __skep_with_many(how, ret, name, ...) __skep_wrong(ret, name, "functions have at most twelve parameters")
#define __skep_with_odd(how, ret, name, ...) __skep_wrong(ret, name, "each parameter is a type, a comma and a name")
#define __skep_wrong(ret, name, why)       \
	_Static_assert(0, #name ": " why); \
	static ret name(void)

/* Parameter n of type t is number i. */
#define __skep_each1(M, i, t, n) M(i, t, n)
#define __skep_each2(M, i, t, n, ...) M(i, t, n) __skep_each1(M, (i) + 1, __VA_ARGS__)
#define __skep_each3(M, i, t, n, ...) M(i, t, n) __skep_each2(M, (i) + 1, __VA_ARGS__)
#define __skep_each4(M, i, t, n, ...) M(i, t, n) __skep_each3(M, (i) + 1, __VA_ARGS__)
#define __skep_each5(M, i, t, n, ...) M(i, t, n) __skep_each4(M, (i) + 1, __VA_ARGS__)
#define __skep_each6(M, i, t, n, ...) M(i, t, n) __skep_each5(M, (i) + 1, __VA_ARGS__)
#define __skep_each7(M, i, t, n, ...) M(i, t, n) __skep_each6(M, (i) + 1, __VA_ARGS__)

/* What a register or slot holds: an integer, an enum or a pointer. A result may be void (class 0), too. */
#define __skep_class(t) __builtin_classify_type(((t(*)(void))8)())
#define __skep_fits(t) (sizeof(t) <= 8 && __skep_class(t) <= 5)
#define __skep_check(i, t, n) \
	_Static_assert(__skep_fits(t) && __skep_class(t) > 0, "parameter " #n ": " #t " is no integer or pointer of up to 64 bits");
#define __skep_check_all(each, ret, name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, ...)                               \
	_Static_assert(__skep_fits(ret), #name " returns " #ret ", which is no integer or pointer of up to 64 bits"); \
	__skep_check(1, t1, n1) __skep_check(2, t2, n2) __skep_check(3, t3, n3) __skep_check(4, t4, n4)               \
	__skep_check(5, t5, n5) each(__skep_check, 6, __VA_ARGS__)

#define __skep_param(i, t, n) , t n
#define __skep_params(each, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, ...) \
	(t1 n1, t2 n2, t3 n3, t4 n4, t5 n5 each(__skep_param, 6, __VA_ARGS__))

#define __skep_static static __attribute__((noinline, unused))
#define __skep_inline static inline __attribute__((always_inline, unused))
#define __skep_stub __skep_inline __attribute__((nodebug)) /* its instructions belong to the line of the call */
#define __skep_extern extern __attribute__((weak, section(".ksyms")))

#ifdef __BPF_FEATURE_STACK_ARGUMENT

#define __skep_decl(each, ret, name, ...) \
	__skep_check_all(each, ret, name, __VA_ARGS__) __skep_static ret name __skep_params(each, __VA_ARGS__)
#define __skep_func __skep_decl
#define __skep_kfunc(each, ret, name, ...) \
	__skep_check_all(each, ret, name, __VA_ARGS__) __skep_extern ret name __skep_params(each, __VA_ARGS__)

#else

/* Argument i of a call that comes next, and of the function that begins. */
#define __skep_store(i, t, n) __asm__ volatile("*(u64 *)(r11 - %0) = %1" : : "i"(8 * ((i) - 5)), "r"((long)(n)) : "memory");
#define __skep_load(i, t, n)                                                                             \
	, (t)({                                                                                          \
		long __skep_v;                                                                           \
		__asm__ volatile("%0 = *(u64 *)(r11 + %1)" : "=r"(__skep_v) : "i"(8 * ((i) - 5)));       \
		__skep_v;                                                                                \
	})
#define __skep_name(i, t, n) , n

/* A verifier takes what is left in r0 for the result of a void function, too, and refuses it if it is a pointer to the stack. */
__skep_stub void __skep_leave(int *is_void)
{
	if (*is_void)
		__asm__ volatile("r0 = 0" : : : "r0");
}

/*
 * A function is three. NAME itself is what stands in the object and its BTF: it loads arguments from the slots and goes on in
 * NAME__body, which is inlined. Since it never names its parameters from the sixth on, the compiler drops them from the code
 * and leaves them in the BTF. It keeps the first five where they are only if they are used, which the empty assembly
 * does; and if it knows nothing of them, which the one in NAME__call does, the third, inlined where SKEP_CALL stands.
 */
#define __skep_decl(each, ret, name, ...)                                      \
	__skep_check_all(each, ret, name, __VA_ARGS__)                         \
	__skep_static ret name __skep_params(each, __VA_ARGS__);               \
	__skep_stub ret name##__call __skep_params(each, __VA_ARGS__)
#define __skep_func(each, ret, name, ...)                                      \
	__skep_decl(each, ret, name, __VA_ARGS__);                             \
	__skep_inline ret name##__body __skep_params(each, __VA_ARGS__);       \
	__skep_define(each, ret, name, __VA_ARGS__)                            \
	__skep_inline ret name##__body __skep_params(each, __VA_ARGS__)
#define __skep_define(each, ret, name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, ...)                                              \
	__skep_static ret name __skep_params(each, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, __VA_ARGS__)                          \
	{                                                                                                                        \
		int __skep_0 __attribute__((cleanup(__skep_leave), unused)) = __builtin_types_compatible_p(ret, void);                   \
		__asm__ volatile("" : : "r"((long)n1), "r"((long)n2), "r"((long)n3), "r"((long)n4), "r"((long)n5));              \
		return name##__body(n1, n2, n3, n4, n5 each(__skep_load, 6, __VA_ARGS__));                                       \
	}                                                                                                                        \
	__skep_stub ret name##__call __skep_params(each, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, __VA_ARGS__)                  \
	{                                                                                                                        \
		long __skep_1 = (long)n1, __skep_2 = (long)n2, __skep_3 = (long)n3, __skep_4 = (long)n4, __skep_5 = (long)n5;    \
		each(__skep_store, 6, __VA_ARGS__)                                                                               \
		__asm__ volatile("" : "+r"(__skep_1), "+r"(__skep_2), "+r"(__skep_3), "+r"(__skep_4), "+r"(__skep_5));           \
		return name((t1)__skep_1, (t2)__skep_2, (t3)__skep_3, (t4)__skep_4,                                              \
			    (t5)__skep_5 each(__skep_name, 6, __VA_ARGS__));                                                     \
	}

/*
 * A call of a kfunc is assembly. The compiler writes a prototype to the BTF only if it sees the address taken, which the
 * first, empty one is for. Of a _Bool the kernel's compilers leave all bits but eight open.
 */
#define __skep_kfunc(each, ret, name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, ...)                                               \
	__skep_check_all(each, ret, name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, __VA_ARGS__)                                   \
	__skep_extern ret name __skep_params(each, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, __VA_ARGS__);                         \
	__skep_stub ret name##__call __skep_params(each, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, __VA_ARGS__)                  \
	{                                                                                                                        \
		register long __skep_0 __asm__("r0"), __skep_1 __asm__("r1"), __skep_2 __asm__("r2"), __skep_3 __asm__("r3"),    \
			__skep_4 __asm__("r4"), __skep_5 __asm__("r5");                                                          \
		__asm__ volatile("" : : "r"(name));                                                                              \
		each(__skep_store, 6, __VA_ARGS__)                                                                               \
		__skep_1 = (long)n1, __skep_2 = (long)n2, __skep_3 = (long)n3, __skep_4 = (long)n4, __skep_5 = (long)n5;         \
		__asm__ volatile("call %[f]"                                                                                     \
				 : "=r"(__skep_0), "+r"(__skep_1), "+r"(__skep_2), "+r"(__skep_3), "+r"(__skep_4), "+r"(__skep_5) \
				 : [f] "i"(name)                                                                                 \
				 : "memory");                                                                                    \
		return (ret)(__builtin_types_compatible_p(ret, _Bool) ? __skep_0 & 0xff : __skep_0);                             \
	}                                                                                                                        \
	_Static_assert(1, "")

#endif /* __BPF_FEATURE_STACK_ARGUMENT */

#endif /* SKEP_BPF_STACK_ARGS_H */
