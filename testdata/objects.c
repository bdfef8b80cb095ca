// Objects that programs allocate: pointers in maps and in other objects, lists, trees, counts, and those of which each CPU has a copy. Each
// program does what the mark of its socket buffer says, with the priority as a number.
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

#if __clang_major__ < 15
#error "tags of pointers came with clang 15"
#endif

struct bpf_spin_lock {
	u32 val;
};
struct bpf_list_head {
	u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_list_node {
	u64 opaque[3];
} __attribute__((aligned(8)));
struct bpf_rb_root {
	u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
	u64 opaque[4];
} __attribute__((aligned(8)));
struct bpf_refcount {
	u32 opaque[1];
} __attribute__((aligned(4)));

static void (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static void (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static void *(*const bpf_per_cpu_ptr)(const void *p, u32 cpu) = (void *)153;
static void *(*const bpf_this_cpu_ptr)(const void *p) = (void *)154;
static long (*const bpf_loop)(u32 nr, void *callback, void *ctx, u64 flags) = (void *)181;
static void *(*const bpf_kptr_xchg)(void *dst, void *ptr) = (void *)194;

void *bpf_obj_new_impl(u64 local_type_id, void *meta) __ksym;
void bpf_obj_drop_impl(void *p, void *meta) __ksym;
void *bpf_refcount_acquire_impl(void *p, void *meta) __ksym;
int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, u64 off) __ksym;
int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, u64 off) __ksym;
struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_front(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_back(struct bpf_list_head *head) __ksym;
int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node, bool(less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta,
			u64 off) __ksym;
struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root) __ksym;
struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
void *bpf_percpu_obj_new_impl(u64 local_type_id, void *meta) __ksym;
void bpf_percpu_obj_drop_impl(void *p, void *meta) __ksym;

struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));
int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

#define type_id(type) __builtin_btf_type_id(*(typeof(type) *)0, 0)
#define bpf_obj_new(type) ((type *)bpf_obj_new_impl(type_id(type), NULL))
// No two calls are made one: each drops objects of one type.
#define apart() asm volatile("" ::"i"(__COUNTER__))
#define bpf_obj_drop(p) ({ bpf_obj_drop_impl(p, NULL); apart(); })
#define bpf_percpu_obj_new(type) ((type __percpu_kptr *)bpf_percpu_obj_new_impl(type_id(type), NULL))
#define bpf_percpu_obj_drop(p) bpf_percpu_obj_drop_impl((void *)(p), NULL)
#define bpf_refcount_acquire(p) bpf_refcount_acquire_impl(p, NULL)
#define bpf_list_push_front(h, n) bpf_list_push_front_impl(h, n, NULL, 0)
#define bpf_list_push_back(h, n) bpf_list_push_back_impl(h, n, NULL, 0)
#define bpf_rbtree_add(r, n, less) bpf_rbtree_add_impl(r, n, less, NULL, 0)

#define __kptr __attribute__((btf_type_tag("kptr")))
#define __percpu_kptr __attribute__((btf_type_tag("percpu_kptr")))
#define __contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
#define private(name) SEC(".bss." #name) __hidden __attribute__((aligned(8)))
#define container_of(ptr, type, member) ((type *)((void *)(ptr) - __builtin_offsetof(type, member)))

enum { BPF_MAP_TYPE_LRU_HASH = 9, MAX_CPU = 256 };

char _license[] SEC("license") = "GPL";

struct inner {
	u64 n;
};

struct item {
	u64 key;
	struct bpf_list_node l;
	u64 twice;
};

// An object that owns another one by a pointer, and a list of them.
struct holder {
	u64 n;
	struct inner __kptr *in;
	struct bpf_spin_lock lock;
	struct bpf_list_head items __contains(item, l);
};

struct slot {
	u64 before;
	struct holder __kptr *h;
	u64 after;
};

// It begins as a slot does.
struct locked_slot {
	u64 before;
	struct holder __kptr *h;
	u64 after;
	struct bpf_spin_lock lock;
};

#define a_map_of(value_type, name, t, entries) \
	struct {                               \
		__uint(type, t);               \
		__uint(max_entries, entries);  \
		__type(key, u32);              \
		__type(value, value_type);     \
	} name SEC(".maps")
#define a_map(name, t, entries) a_map_of(struct slot, name, t, entries)

a_map(array, BPF_MAP_TYPE_ARRAY, 4);
a_map(hash, BPF_MAP_TYPE_HASH, 4);
// The kernel's need not be full before elements go.
a_map(lru, BPF_MAP_TYPE_LRU_HASH, 1024);
a_map(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 4);
a_map(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 4);
a_map_of(struct locked_slot, locked_array, BPF_MAP_TYPE_ARRAY, 4);
a_map_of(struct locked_slot, locked_hash, BPF_MAP_TYPE_HASH, 4);

static long one_round(u64 i, u64 *made)
{
	struct item *p = bpf_obj_new(struct item);
	if (!p)
		return 1;
	if (p->key | p->twice) { // not zero
		*made = ~0ull;
		bpf_obj_drop(p);
		return 1;
	}
	p->key = p->twice = ~0ull;
	bpf_obj_drop(p);
	*made += 1;
	return 0;
}

// new_drop makes as many objects as the priority says, one after the other. The result is the number of those that were there.
SEC("tc") int new_drop(struct __sk_buff *skb)
{
	u64 made = 0;
	bpf_loop(skb->priority, one_round, &made, 0);
	return made;
}

enum { STASH, TAKE, READ, INNER, PUSH, POP, DELETE, UPDATE, UPDATE_LOCKED, BPF_F_LOCK = 4 };

static __always_inline int put_back(struct slot *v, struct holder *h)
{
	h = bpf_kptr_xchg(&v->h, h);
	if (h)
		bpf_obj_drop(h);
	return 0;
}

static __always_inline int kptr_op(void *map, u32 key, u32 op, u32 n)
{
	struct locked_slot new = { .before = n, .after = n + 1 };
	struct slot *v;
	struct holder *h;
	struct inner *in;
	struct bpf_list_node *l;
	int ret = -1;

	if (op == DELETE)
		return bpf_map_delete_elem(map, &key);
	if (op == UPDATE)
		return bpf_map_update_elem(map, &key, &new, 0);
	if (op == UPDATE_LOCKED)
		return bpf_map_update_elem(map, &key, &new, BPF_F_LOCK);
	v = bpf_map_lookup_elem(map, &key);
	if (!v)
		return -2;
	if (op == STASH) {
		h = bpf_obj_new(struct holder);
		if (!h)
			return -3;
		h->n = n;
		h = bpf_kptr_xchg(&v->h, h);
		if (h) {
			ret = h->n;
			bpf_obj_drop(h);
		}
		return ret;
	}
	if (op == READ) {
		h = v->h;
		return h ? h->n : -1;
	}
	h = bpf_kptr_xchg(&v->h, NULL);
	if (!h)
		return -4;
	if (op == TAKE) {
		ret = h->n;
		bpf_obj_drop(h);
		return ret;
	}
	if (op == INNER) {
		in = bpf_obj_new(struct inner);
		if (in) {
			in->n = n;
			in = bpf_kptr_xchg(&h->in, in);
			if (in) {
				ret = in->n;
				bpf_obj_drop(in);
			}
		}
	} else if (op == PUSH) {
		struct item *it = bpf_obj_new(struct item);
		if (it) {
			it->key = n;
			bpf_spin_lock(&h->lock);
			ret = bpf_list_push_back(&h->items, &it->l);
			bpf_spin_unlock(&h->lock);
		}
	} else {
		bpf_spin_lock(&h->lock);
		l = bpf_list_pop_front(&h->items);
		bpf_spin_unlock(&h->lock);
		if (l) {
			struct item *it = container_of(l, struct item, l);
			ret = it->key;
			bpf_obj_drop(it);
		}
	}
	put_back(v, h);
	return ret;
}

// Bits of the mark: what to do, the element (from bit 8 on).
#define kptr_program(map)                                                                \
	SEC("tc") int kptr_##map(struct __sk_buff *skb)                                  \
	{                                                                                \
		return kptr_op(&map, skb->mark >> 8, skb->mark & 0xff, skb->priority);   \
	}
kptr_program(array)
kptr_program(hash)
kptr_program(lru)
kptr_program(percpu_array)
kptr_program(percpu_hash)
kptr_program(locked_array)
kptr_program(locked_hash)

private(A) struct bpf_spin_lock list_lock;
private(A) struct bpf_list_head list __contains(item, l);

enum { PUSH_FRONT, PUSH_BACK, POP_FRONT, POP_BACK, FRONT, BACK };

SEC("tc") int lists(struct __sk_buff *skb)
{
	u32 op = skb->mark;
	struct bpf_list_node *l;
	struct item *it;
	int ret = -1;

	if (op == PUSH_FRONT || op == PUSH_BACK) {
		it = bpf_obj_new(struct item);
		if (!it)
			return -2;
		it->key = skb->priority;
		bpf_spin_lock(&list_lock);
		it->twice = 2 * it->key;
		if (op == PUSH_FRONT) {
			ret = bpf_list_push_front(&list, &it->l);
		} else {
			ret = bpf_list_push_back(&list, &it->l);
		}
		ret += it->twice; // is the list's, and can be read under the lock
		bpf_spin_unlock(&list_lock);
		return ret;
	}
	bpf_spin_lock(&list_lock);
	if (op == FRONT || op == BACK) {
		l = op == FRONT ? bpf_list_front(&list) : bpf_list_back(&list);
		if (l)
			ret = container_of(l, struct item, l)->key;
		bpf_spin_unlock(&list_lock);
		return ret;
	}
	if (op == POP_FRONT)
		l = bpf_list_pop_front(&list);
	else
		l = bpf_list_pop_back(&list);
	bpf_spin_unlock(&list_lock);
	if (!l)
		return -3;
	it = container_of(l, struct item, l);
	ret = it->key;
	bpf_obj_drop(it);
	return ret;
}

// An object that a list and a tree can own at the same time.
struct leaf {
	u64 key;
	struct bpf_rb_node t;
	struct bpf_refcount count;
	struct bpf_list_node l;
};

private(B) struct bpf_spin_lock tree_lock;
private(B) struct bpf_rb_root tree __contains(leaf, t);
private(B) struct bpf_list_head leaves __contains(leaf, l);

static bool leaf_less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct leaf, t)->key < container_of(b, struct leaf, t)->key;
}

enum { ADD, FIRST, REMOVE_FIRST, PATH, REMOVE_PATH, ADD_BOTH, ADD_TWICE, LIST_TWICE, POP_LEAF, COUNT_UP, MOVE };

static __always_inline struct leaf *new_leaf(u64 key)
{
	struct leaf *n = bpf_obj_new(struct leaf);
	if (n)
		n->key = key;
	return n;
}

// path goes down from the root, to the left or right by the bits of way, as long as there is a node.
static __always_inline int path(u32 way, bool take)
{
	struct bpf_rb_node *n, *next, *out = NULL;
	int ret = -1;

	bpf_spin_lock(&tree_lock);
	n = bpf_rbtree_root(&tree);
	for (int i = 0; i < 12 && n; i++) {
		next = way & (1 << i) ? bpf_rbtree_right(&tree, n) : bpf_rbtree_left(&tree, n);
		if (!next) {
			ret = container_of(n, struct leaf, t)->key * 16 + i;
			if (take)
				out = bpf_rbtree_remove(&tree, n);
			break;
		}
		n = next;
	}
	bpf_spin_unlock(&tree_lock);
	if (out)
		bpf_obj_drop(container_of(out, struct leaf, t));
	return ret;
}

SEC("tc") int trees(struct __sk_buff *skb)
{
	u32 op = skb->mark, key = skb->priority;
	struct bpf_rb_node *n;
	struct bpf_list_node *l;
	struct leaf *p, *q;
	int ret = -1, ret2;

	switch (op) {
	case ADD:
		p = new_leaf(key);
		if (!p)
			return -2;
		bpf_spin_lock(&tree_lock);
		ret = bpf_rbtree_add(&tree, &p->t, leaf_less);
		bpf_spin_unlock(&tree_lock);
		return ret;
	case FIRST:
		bpf_spin_lock(&tree_lock);
		n = bpf_rbtree_first(&tree);
		if (n)
			ret = container_of(n, struct leaf, t)->key;
		bpf_spin_unlock(&tree_lock);
		return ret;
	case REMOVE_FIRST:
		bpf_spin_lock(&tree_lock);
		n = bpf_rbtree_first(&tree);
		if (!n) {
			bpf_spin_unlock(&tree_lock);
			return -3;
		}
		n = bpf_rbtree_remove(&tree, n);
		bpf_spin_unlock(&tree_lock);
		if (!n)
			return -4;
		p = container_of(n, struct leaf, t);
		ret = p->key;
		bpf_obj_drop(p);
		return ret;
	case PATH:
		return path(key, 0);
	case REMOVE_PATH:
		return path(key, 1);
	case ADD_BOTH:
	case ADD_TWICE:
	case LIST_TWICE:
		p = new_leaf(key);
		if (!p)
			return -2;
		q = bpf_refcount_acquire(p);
		bpf_spin_lock(&tree_lock);
		if (op == LIST_TWICE)
			ret = bpf_list_push_back(&leaves, &p->l);
		else
			ret = bpf_rbtree_add(&tree, &p->t, leaf_less);
		if (op == ADD_TWICE)
			ret2 = bpf_rbtree_add(&tree, &q->t, leaf_less);
		else
			ret2 = bpf_list_push_front(&leaves, &q->l);
		bpf_spin_unlock(&tree_lock);
		return 100 * -ret - ret2;
	case POP_LEAF: // which may be in the tree still
		bpf_spin_lock(&tree_lock);
		l = bpf_list_pop_front(&leaves);
		bpf_spin_unlock(&tree_lock);
		if (!l)
			return -5;
		p = container_of(l, struct leaf, l);
		ret = p->key;
		bpf_obj_drop(p);
		return ret;
	case MOVE: // from the list to the tree, unless it is there
		q = NULL;
		bpf_spin_lock(&tree_lock);
		l = bpf_list_pop_front(&leaves);
		if (l)
			ret = -bpf_rbtree_add(&tree, &container_of(l, struct leaf, l)->t, leaf_less);
		bpf_spin_unlock(&tree_lock);
		return ret;
	case COUNT_UP: // another owner of the first leaf, which is then in the list, too
		q = NULL;
		bpf_spin_lock(&tree_lock);
		n = bpf_rbtree_first(&tree);
		if (n) {
			q = bpf_refcount_acquire(container_of(n, struct leaf, t));
			if (q)
				ret = -bpf_list_push_back(&leaves, &q->l);
		}
		bpf_spin_unlock(&tree_lock);
		return ret;
	}
	return -9;
}

// Objects of which each CPU has a copy.
struct counts {
	u64 a, b;
};

struct pslot {
	struct counts __percpu_kptr *c;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct pslot);
} pslots SEC(".maps");

enum { PNEW, PADD, PSUM, PDROP };

SEC("tc") int percpu(struct __sk_buff *skb)
{
	u32 op = skb->mark, key = 0;
	struct counts __percpu_kptr *p;
	struct counts *c;
	struct pslot *v = bpf_map_lookup_elem(&pslots, &key);

	if (!v)
		return -1;
	if (op == PNEW) {
		p = bpf_percpu_obj_new(struct counts);
		if (!p)
			return -2;
		p = bpf_kptr_xchg(&v->c, p);
		if (p)
			bpf_percpu_obj_drop(p);
		if (!skb->priority)
			return 0;
		p = v->c;
		for (u32 i = 0; p && i < MAX_CPU; i++) { // the kernel's are not zero
			c = bpf_per_cpu_ptr(p, i);
			if (c)
				c->a = c->b = 0;
		}
		return 0;
	}
	if (op == PDROP) {
		p = bpf_kptr_xchg(&v->c, NULL);
		if (!p)
			return -3;
		bpf_percpu_obj_drop(p);
		return 0;
	}
	p = v->c;
	if (!p)
		return -4;
	if (op == PADD) {
		c = bpf_this_cpu_ptr(p);
		c->a += skb->priority;
		c->b++;
		return 0;
	}
	u64 sum = 0;
	for (u32 i = 0; i < MAX_CPU; i++) {
		c = bpf_per_cpu_ptr(p, i);
		if (c)
			sum += 100 * c->a + c->b;
	}
	return sum;
}

// spend takes for ever, as far as a test is concerned; it can be called under a lock.
static __always_inline void spend(void)
{
	struct bpf_iter_num outer, inner;
	bpf_iter_num_new(&outer, 0, 8000000);
	while (bpf_iter_num_next(&outer)) {
		bpf_iter_num_new(&inner, 0, 8000000);
		while (bpf_iter_num_next(&inner))
			;
		bpf_iter_num_destroy(&inner);
	}
	bpf_iter_num_destroy(&outer);
}

static bool slow_less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	spend();
	return 0;
}

enum { HOLD = 1, HOLD_LOCKED, COMPARE, FOUND_HELD };

// slow is stopped in the middle: while it owns an object, while it holds the lock that lies in one and others are in its list, while an
// object is on its way into a tree.
SEC("tc") int slow(struct __sk_buff *skb)
{
	u32 op = skb->mark, key = 0;
	struct slot *v;
	struct holder *h;
	struct item *it;
	struct leaf *p, *q;
	int ret = -1;

	switch (op) {
	case HOLD:
		h = bpf_obj_new(struct holder);
		if (!h)
			return -2;
		spend();
		bpf_obj_drop(h);
		return 0;
	case HOLD_LOCKED:
		h = bpf_obj_new(struct holder);
		if (!h)
			return -2;
		it = bpf_obj_new(struct item);
		if (!it) {
			bpf_obj_drop(h);
			return -3;
		}
		bpf_spin_lock(&h->lock);
		bpf_list_push_back(&h->items, &it->l);
		spend();
		bpf_spin_unlock(&h->lock);
		bpf_obj_drop(h);
		return 0;
	case COMPARE: // the second object has another owner
		p = new_leaf(1);
		if (!p)
			return -2;
		bpf_spin_lock(&tree_lock);
		bpf_rbtree_add(&tree, &p->t, leaf_less);
		bpf_spin_unlock(&tree_lock);
		p = new_leaf(2);
		if (!p)
			return -2;
		q = bpf_refcount_acquire(p);
		bpf_spin_lock(&tree_lock);
		bpf_list_push_back(&leaves, &q->l);
		ret = bpf_rbtree_add(&tree, &p->t, slow_less);
		bpf_spin_unlock(&tree_lock);
		return ret;
	case FOUND_HELD: // what was in a map's value
		v = bpf_map_lookup_elem(&array, &key);
		if (!v)
			return -2;
		h = bpf_kptr_xchg(&v->h, NULL);
		if (!h)
			return -3;
		spend();
		bpf_obj_drop(h);
		return 0;
	}
	return -1;
}

// What BenchmarkAllocations measures, as often as the priority says: an object made and dropped, one exchanged with a map's value, pushed and popped,
// added to a tree of 100 others and removed.
static long bench_new(u64 i, void *ctx)
{
	struct item *p = bpf_obj_new(struct item);
	if (p)
		bpf_obj_drop(p);
	return 0;
}

static long bench_exchange(u64 i, void *ctx)
{
	struct holder *h, *old;
	u32 key = 0;
	struct slot *v = bpf_map_lookup_elem(&array, &key);
	if (!v)
		return 1;
	h = bpf_kptr_xchg(&v->h, NULL);
	if (!h)
		h = bpf_obj_new(struct holder);
	if (!h)
		return 1;
	old = bpf_kptr_xchg(&v->h, h);
	if (old)
		bpf_obj_drop(old);
	return 0;
}

static long bench_list(u64 i, void *ctx)
{
	struct bpf_list_node *l;
	bpf_spin_lock(&list_lock);
	l = bpf_list_pop_front(&list);
	if (l)
		bpf_list_push_back(&list, l);
	bpf_spin_unlock(&list_lock);
	return 0;
}

static long bench_tree(u64 i, void *ctx)
{
	struct bpf_rb_node *n;
	bpf_spin_lock(&tree_lock);
	n = bpf_rbtree_first(&tree);
	if (!n)
		goto out;
	n = bpf_rbtree_remove(&tree, n);
	if (!n)
		goto out;
	container_of(n, struct leaf, t)->key += 100;
	bpf_rbtree_add(&tree, n, leaf_less);
out:
	bpf_spin_unlock(&tree_lock);
	return 0;
}

static long bench_nothing(u64 i, void *ctx) { return 0; }

SEC("tc") int bench(struct __sk_buff *skb)
{
	u32 n = skb->priority;
	switch (skb->mark) {
	case 1:
		return bpf_loop(n, bench_exchange, NULL, 0);
	case 2:
		return bpf_loop(n, bench_list, NULL, 0);
	case 3:
		return bpf_loop(n, bench_tree, NULL, 0);
	case 4:
		return bpf_loop(n, bench_new, NULL, 0);
	case 5: { // fills list and tree
		struct leaf *p = new_leaf(n);
		if (p) {
			bpf_spin_lock(&tree_lock);
			bpf_rbtree_add(&tree, &p->t, leaf_less);
			bpf_spin_unlock(&tree_lock);
		}
		struct item *it = bpf_obj_new(struct item);
		if (it) {
			bpf_spin_lock(&list_lock);
			bpf_list_push_back(&list, &it->l);
			bpf_spin_unlock(&list_lock);
		}
		return 0;
	}
	}
	return bpf_loop(n, bench_nothing, NULL, 0);
}

// An order by two keys, which a function of ten arguments finds out.
SKEP_FUNC(long, order, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

static bool ten_less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	struct leaf *p = container_of(a, struct leaf, t), *q = container_of(b, struct leaf, t);
	return SKEP_CALL(order, 1, 2, 3, 4, 5, 6, 7, 8, 9, p->key) > SKEP_CALL(order, 1, 2, 3, 4, 5, 6, 7, 8, 9, q->key);
}

// tree_ten adds a leaf; the first is that with the greatest key. The result is the first's.
SEC("tc") int tree_ten(struct __sk_buff *skb)
{
	struct leaf *p = new_leaf(skb->priority);
	struct bpf_rb_node *n;
	int ret = -1;

	if (!p)
		return -2;
	bpf_spin_lock(&tree_lock);
	bpf_rbtree_add(&tree, &p->t, ten_less);
	n = bpf_rbtree_first(&tree);
	if (n)
		ret = container_of(n, struct leaf, t)->key;
	bpf_spin_unlock(&tree_lock);
	return ret;
}
