// Locks that can fail: a run that would wait for itself, or for another that waits for it, or for too long, gets an error. Each program does
// what the mark of its socket buffer says.
#include "skep_test.h"

struct bpf_res_spin_lock {
	u32 val;
} __attribute__((aligned(4)));
struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));

int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) __ksym;
void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) __ksym;
int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;
void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;
int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

char _license[] SEC("license") = "GPL";

struct elem {
	u64 before;
	struct bpf_res_spin_lock lock;
	u32 n;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct elem);
} elems SEC(".maps");

u64 step[2]; // how far the run that is numbered so is

enum { COUNT, COUNT_IRQ, TWICE, BOTH };

SEC("tc") int res_lock(struct __sk_buff *skb)
{
	u32 op = skb->mark, key = skb->priority & 1, key2 = op == TWICE ? key : !key;
	struct elem *v = bpf_map_lookup_elem(&elems, &key), *w = bpf_map_lookup_elem(&elems, &key2);
	unsigned long flags;
	int ret;

	if (!v || !w)
		return -1;
	if (op == COUNT_IRQ) {
		ret = bpf_res_spin_lock_irqsave(&v->lock, &flags);
		if (ret)
			return ret;
		ret = ++v->n;
		bpf_res_spin_unlock_irqrestore(&v->lock, &flags);
		return ret;
	}
	ret = bpf_res_spin_lock(&v->lock);
	if (ret)
		return ret;
	if (op == COUNT) {
		ret = ++v->n;
		bpf_res_spin_unlock(&v->lock);
		return ret;
	}
	ret = bpf_res_spin_lock(&w->lock);
	if (!ret) {
		ret = 100;
		bpf_res_spin_unlock(&w->lock);
	}
	bpf_res_spin_unlock(&v->lock);
	return ret;
}

// until waits for a variable to be at least so much, for a long time.
static __always_inline void until(u64 *at, u64 want)
{
	struct bpf_iter_num outer, inner;
	bpf_iter_num_new(&outer, 0, 8000000);
	while (bpf_iter_num_next(&outer)) {
		bpf_iter_num_new(&inner, 0, 8000000);
		while (bpf_iter_num_next(&inner))
			if (*(volatile u64 *)at >= want)
				break;
		bpf_iter_num_destroy(&inner);
		if (*(volatile u64 *)at >= want)
			break;
	}
	bpf_iter_num_destroy(&outer);
}

// pair takes the lock of its own element, waits until the other run has that of the other element, and wants that, too. With a mark of 2
// and more it only holds its own, until somebody says so.
SEC("tc") int pair(struct __sk_buff *skb)
{
	u32 me = skb->mark & 1, other = !me;
	struct elem *v = bpf_map_lookup_elem(&elems, &me), *w = bpf_map_lookup_elem(&elems, &other);
	u64 *mine = &step[skb->mark & 1], *others = &step[!(skb->mark & 1)];
	int ret;

	if (!v || !w)
		return -1;
	ret = bpf_res_spin_lock(&v->lock);
	if (ret)
		return ret;
	*(volatile u64 *)mine = 1;
	if (skb->mark >= 2) {
		until(mine, 2);
		bpf_res_spin_unlock(&v->lock);
		return 0;
	}
	until(others, 1);
	ret = bpf_res_spin_lock(&w->lock);
	if (!ret)
		bpf_res_spin_unlock(&w->lock);
	bpf_res_spin_unlock(&v->lock);
	return ret;
}
