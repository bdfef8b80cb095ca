// Iterators over bits and sections, which are the kernel's functions: run here and in the kernel.
#include "skep_test.h"

struct bpf_iter_bits {
	u64 opaque[2];
} __attribute__((aligned(8)));

extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const u64 *unsafe_ptr__ign, u32 nr_words) __weak __ksym;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __weak __ksym;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __weak __ksym;
extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __weak __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __weak __ksym;

struct {
	__uint(type, 2); // array
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64[64]);
} out SEC(".maps");

struct {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64[600]);
} words SEC(".maps");

// Results, the sum and number of the bits, by calls of new.
#define WALK(at, ptr, n)                                      \
	{                                                     \
		struct bpf_iter_bits it;                      \
		int *bit;                                     \
		u64 sum = 0, count = 0;                       \
		v[at] = (s64)bpf_iter_bits_new(&it, ptr, n);  \
		while ((bit = bpf_iter_bits_next(&it))) {     \
			sum += *bit;                          \
			count++;                              \
		}                                             \
		bpf_iter_bits_destroy(&it);                   \
		v[at + 1] = sum;                              \
		v[at + 2] = count;                            \
	}

SEC("tc") int walks(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&out, &zero), *w = bpf_map_lookup_elem(&words, &zero);
	u64 one = 0x8000000000000011ull, none = 0, all = ~0ull;

	if (!v || !w)
		return -1;
	w[0] = 1ull << 63;
	w[1] = 3;
	w[510] = 1ull << 40;
	w[511] = 5;
	WALK(0, &one, 1)
	WALK(3, &none, 1)
	WALK(6, &all, 1)
	WALK(9, w, 2)
	WALK(12, w, 511)
	WALK(15, w, 512)
	WALK(18, w, 0)
	WALK(21, NULL, 1)
	WALK(24, (u64 *)16, 1)
	WALK(27, (u64 *)16, 3)
	WALK(30, w + 2, 100)
	WALK(33, w + 1, 1)
	return 0;
}

// One that ends early, and one in another.
SEC("tc") int nested(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&out, &zero), a[3] = {5, 0, 9}, b = 6;
	struct bpf_iter_bits x, y;
	int *i, *j;

	if (!v)
		return -1;
	bpf_iter_bits_new(&x, a, 3);
	while ((i = bpf_iter_bits_next(&x))) {
		bpf_iter_bits_new(&y, &b, 1);
		while ((j = bpf_iter_bits_next(&y)))
			v[(*i + *j) & 63]++;
		bpf_iter_bits_destroy(&y);
		if (*i > 100)
			break;
	}
	bpf_iter_bits_destroy(&x);
	return 0;
}

SEC("tc") int held_off(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&out, &zero);
	unsigned long flags, inner;

	if (!v)
		return -1;
	bpf_rcu_read_lock();
	v[0]++;
	bpf_rcu_read_unlock();
	bpf_preempt_disable();
	bpf_local_irq_save(&flags);
	bpf_local_irq_save(&inner);
	v[1]++;
	bpf_local_irq_restore(&inner);
	bpf_local_irq_restore(&flags);
	bpf_preempt_enable();
	return 3;
}

LICENSE;
