// Data in sections of its own beside .bss, and kernel variables with a type: there are none in user space, so that a
// weak one reads as NULL and a program that needs one is refused, alone.
#include "skep_test.h"

#define private(name) __attribute__((section(".bss." #name)))

struct kernel_thing {
	int x;
};

extern const struct kernel_thing typed_variable __ksym;
extern const struct kernel_thing weak_variable __ksym __weak;

u32 plain;
private(one) u32 one[4];
private(two) static u64 two;
u32 set __attribute__((section(".data.set"))) = 7;

SEC("socket") __success __retval(12) int sections(struct __sk_buff *ctx)
{
	plain += 2;
	one[3] += 3;
	two++;
	asm volatile("" ::: "memory"); // else the sums are known
	return plain + one[3] + (two - 1) + set;
}

SEC("socket") __success __retval(1) int weak_is_null(struct __sk_buff *ctx)
{
	if (&weak_variable)
		return -1;
	return 1;
}

SEC("socket") __auxiliary int needs_variable(struct __sk_buff *ctx)
{
	return (long)&typed_variable >> 8 & 1;
}

LICENSE;
