// Map types beside arrays and hashes: LRU hashes, LPM tries, queues, stacks, Bloom filters, maps in maps. Each program returns what it
// found as one number. They share no map but where the comment says so, so that the order in which they run does not count.
#include "skep_test.h"

enum {
	BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_LRU_PERCPU_HASH = 10, BPF_MAP_TYPE_LPM_TRIE = 11, BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13, BPF_MAP_TYPE_QUEUE = 22, BPF_MAP_TYPE_STACK = 23, BPF_MAP_TYPE_BLOOM_FILTER = 30,
};
enum { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_NO_COMMON_LRU = 2, BPF_F_INNER_MAP = 1 << 12 };
enum { ENOENT = 2, E2BIG = 7, EEXIST = 17, EINVAL = 22, ENOSPC = 28 };

static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;
static long (*const bpf_map_peek_elem)(void *map, void *value) = (void *)89;
static long (*const bpf_for_each_map_elem)(void *map, void *callback, void *ctx, u64 flags) = (void *)164;
static void *(*const bpf_map_lookup_percpu_elem)(void *map, const void *key, u32 cpu) = (void *)195;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;

#define KEYED(name, kind, entries, flags)   \
	struct {                            \
		__uint(type, kind);         \
		__uint(max_entries, entries); \
		__uint(map_flags, flags);   \
		__type(key, u32);           \
		__type(value, u64);         \
	} name SEC(".maps")

KEYED(lru, BPF_MAP_TYPE_LRU_HASH, 1000, 0);
KEYED(lru_small, BPF_MAP_TYPE_LRU_HASH, 64, 0);
KEYED(lru_shares, BPF_MAP_TYPE_LRU_HASH, 1024, BPF_F_NO_COMMON_LRU);
KEYED(lru_percpu, BPF_MAP_TYPE_LRU_PERCPU_HASH, 1000, 0);

// update, lookup, replace, delete and what their flags forbid, of anything like a hash
#define HASH_OPS(map)                                                             \
	u32 key = 7, other = 8;                                                   \
	u64 one = 1, *v;                                                          \
	long sum = 0;                                                             \
                                                                                  \
	if (bpf_map_update_elem(&map, &key, &one, BPF_EXIST) == -ENOENT)          \
		sum += 1;                                                         \
	if (bpf_map_update_elem(&map, &key, &one, BPF_NOEXIST) == 0)              \
		sum += 10;                                                        \
	if (bpf_map_update_elem(&map, &key, &one, BPF_NOEXIST) == -EEXIST)        \
		sum += 100;                                                       \
	v = bpf_map_lookup_elem(&map, &key);                                      \
	if (v)                                                                    \
		*v += 2;                                                          \
	v = bpf_map_lookup_elem(&map, &key);                                      \
	if (v)                                                                    \
		sum += *v * 1000;                                                 \
	if (bpf_map_lookup_elem(&map, &other))                                    \
		sum += 10000;                                                     \
	if (bpf_map_update_elem(&map, &key, &one, 4) == -EINVAL)                  \
		sum += 100000;                                                    \
	if (bpf_map_delete_elem(&map, &key) == 0)                                 \
		sum += 1000000;                                                   \
	if (bpf_map_delete_elem(&map, &key) == -ENOENT)                           \
		sum += 10000000;                                                  \
	return sum

SEC("tc") __success __retval(11103111) int lru_ops(struct __sk_buff *ctx) { HASH_OPS(lru); }
SEC("tc") __success __retval(11103111) int lru_shares_ops(struct __sk_buff *ctx) { HASH_OPS(lru_shares); }
SEC("tc") __success __retval(11103111) int lru_percpu_ops(struct __sk_buff *ctx) { HASH_OPS(lru_percpu); }

// a full map takes new elements still, and the one that was written last is there
SEC("tc") __success __retval(500) int lru_overfull(struct __sk_buff *ctx)
{
	int found = 0;

	for (u32 i = 0; i < 500; i++) {
		u64 v = i, *p;
		u32 key = i;

		if (bpf_map_update_elem(&lru_small, &key, &v, BPF_ANY))
			continue;
		p = bpf_map_lookup_elem(&lru_small, &key);
		if (p && *p == i)
			found++;
	}
	return found;
}

KEYED(lru_walked, BPF_MAP_TYPE_LRU_HASH, 1000, 0);

static long add(void *map, u32 *key, u64 *value, u64 *sum)
{
	*sum += *key * *value;
	return 0;
}

SEC("tc") __success __retval(385) int lru_for_each(struct __sk_buff *ctx)
{
	u64 sum = 0;

	for (u32 i = 1; i <= 10; i++) {
		u32 key = i;
		u64 v = i;

		bpf_map_update_elem(&lru_walked, &key, &v, BPF_ANY);
	}
	bpf_for_each_map_elem(&lru_walked, add, &sum, 0);
	return sum;
}

KEYED(percpu_read, BPF_MAP_TYPE_LRU_PERCPU_HASH, 1000, 0);

// the value of the running CPU is found by its number, and there is none beyond the last
SEC("tc") __success __retval(42) int lookup_percpu(struct __sk_buff *ctx)
{
	u32 key = 1;
	u64 v = 42, *p;

	bpf_map_update_elem(&percpu_read, &key, &v, BPF_ANY);
	if (bpf_map_lookup_percpu_elem(&percpu_read, &key, 1 << 20))
		return -1;
	p = bpf_map_lookup_percpu_elem(&percpu_read, &key, bpf_get_smp_processor_id());
	return p ? *p : -2;
}

struct prefix {
	u32 len;
	u8 data[4];
};

#define TRIE(name, entries)                          \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE); \
		__uint(max_entries, entries);        \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, struct prefix);          \
		__type(value, u64);                  \
	} name SEC(".maps")

TRIE(routes, 20);
TRIE(small_trie, 2);

static __noinline int route(u32 len, u8 a, u8 b, u8 c)
{
	struct prefix p = {len, {a, b, c, 1}};
	u64 *v = bpf_map_lookup_elem(&routes, &p);

	return v ? *v : 0;
}

SEC("tc") __success __retval(843216) int lpm_lookup(struct __sk_buff *ctx)
{
	struct prefix p = {8, {10}};
	u64 v = 8;

	bpf_map_update_elem(&routes, &p, &v, BPF_ANY);
	p.len = 16, p.data[1] = 3, v = 16;
	bpf_map_update_elem(&routes, &p, &v, BPF_ANY);
	p.len = 24, p.data[2] = 9, v = 24;
	bpf_map_update_elem(&routes, &p, &v, BPF_ANY);
	p.len = 32, p.data[3] = 1, v = 32;
	bpf_map_update_elem(&routes, &p, &v, BPF_ANY);
	p.len = 24;
	bpf_map_delete_elem(&routes, &p);
	// 10.7.0.1, 10.3.9.1 as a host and as a network, 11.0.0.1, too long
	return route(32, 10, 7, 0) * 100000 + route(32, 10, 3, 9) * 1000 + route(31, 10, 3, 9) + route(32, 11, 0, 0) + route(33, 10, 3, 9) +
	       route(32, 10, 3, 8) * 700;
}

SEC("tc") __success __retval(1111) int lpm_errors(struct __sk_buff *ctx)
{
	struct prefix p = {33, {1}};
	u64 v = 0;
	long sum = 0;

	if (bpf_map_update_elem(&small_trie, &p, &v, BPF_ANY) == -EINVAL)
		sum += 1;
	p.len = 0;
	bpf_map_update_elem(&small_trie, &p, &v, BPF_ANY);
	p.len = 1;
	bpf_map_update_elem(&small_trie, &p, &v, BPF_ANY);
	p.len = 2;
	if (bpf_map_update_elem(&small_trie, &p, &v, BPF_ANY) == -ENOSPC)
		sum += 10;
	if (bpf_map_delete_elem(&small_trie, &p) == -ENOENT)
		sum += 100;
	p.len = 1;
	if (bpf_map_update_elem(&small_trie, &p, &v, BPF_NOEXIST) == -EEXIST)
		sum += 1000;
	return sum;
}

#define KEYLESS(name, kind, entries)        \
	struct {                            \
		__uint(type, kind);         \
		__uint(max_entries, entries); \
		__type(value, u32);         \
	} name SEC(".maps")

KEYLESS(queue, BPF_MAP_TYPE_QUEUE, 3);
KEYLESS(stack, BPF_MAP_TYPE_STACK, 3);
KEYLESS(bloom, BPF_MAP_TYPE_BLOOM_FILTER, 100);

// three pushes and one too many, which pushes the oldest out; then peeks and pops until there is nothing
#define QUEUE_OPS(map)                                              \
	u32 v, sum = 0;                                             \
                                                                    \
	for (int i = 1; i <= 3; i++) {                              \
		v = i;                                              \
		bpf_map_push_elem(&map, &v, BPF_ANY);               \
	}                                                           \
	v = 4;                                                      \
	if (bpf_map_push_elem(&map, &v, BPF_ANY) == -E2BIG)         \
		sum += 1;                                           \
	if (bpf_map_push_elem(&map, &v, BPF_NOEXIST) == -EINVAL)    \
		sum += 1;                                           \
	bpf_map_push_elem(&map, &v, BPF_EXIST);                     \
	for (int i = 0; i < 3; i++) {                               \
		bpf_map_peek_elem(&map, &v);                        \
		sum = sum * 10 + v;                                 \
		bpf_map_pop_elem(&map, &v);                         \
		sum = sum * 10 + v;                                 \
	}                                                           \
	v = 9;                                                      \
	if (bpf_map_pop_elem(&map, &v) == -ENOENT)                  \
		sum = sum * 10 + v;                                 \
	return sum

SEC("tc") __success __retval(22233440) int queue_ops(struct __sk_buff *ctx) { QUEUE_OPS(queue); }
SEC("tc") __success __retval(24433220) int stack_ops(struct __sk_buff *ctx) { QUEUE_OPS(stack); }

SEC("tc") __success __retval(111) int bloom_ops(struct __sk_buff *ctx)
{
	u32 v = 5;
	int sum = 0;

	if (bpf_map_peek_elem(&bloom, &v) == -ENOENT)
		sum += 1;
	if (bpf_map_push_elem(&bloom, &v, BPF_EXIST) == -EINVAL)
		sum += 10;
	bpf_map_push_elem(&bloom, &v, BPF_ANY);
	if (bpf_map_peek_elem(&bloom, &v) == 0)
		sum += 100;
	return sum;
}

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
};

struct inner inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct inner);
} outer_array SEC(".maps") = {
	.values = {[0] = (void *)&inner_a, [2] = (void *)&inner_b},
};

struct hash {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, u64);
};

struct hash hash_a SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct hash);
} outer_hash SEC(".maps") = {
	.values = {[2] = (void *)&hash_a},
};

// what goes into one map in the array is found in it by its own name, and not in the other
SEC("tc") __success __retval(5020) int array_of_maps(struct __sk_buff *ctx)
{
	u32 first = 0, none = 1, last = 2, beyond = 3, i = 1;
	u64 v = 5, *p;
	long sum = 0;
	void *m = bpf_map_lookup_elem(&outer_array, &first);

	if (!m || bpf_map_lookup_elem(&outer_array, &none) || bpf_map_lookup_elem(&outer_array, &beyond))
		return -1;
	bpf_map_update_elem(m, &i, &v, BPF_ANY);
	p = bpf_map_lookup_elem(&inner_a, &i);
	if (p)
		sum += *p * 1000;
	m = bpf_map_lookup_elem(&outer_array, &last);
	if (!m)
		return -2;
	p = bpf_map_lookup_elem(m, &i);
	if (p) {
		sum += *p;
		*p = 20;
	}
	p = bpf_map_lookup_elem(&inner_b, &i);
	if (p) {
		sum += *p;
		*p = 0;
	}
	return sum;
}

static long sum_values(void *map, u32 *key, u64 *value, u64 *sum)
{
	*sum += *value;
	return 0;
}

// a program writes to a hash that it found, and walks it
SEC("tc") __success __retval(30) int hash_of_maps(struct __sk_buff *ctx)
{
	u32 key = 2, none = 1, a = 100, b = 200;
	u64 v = 10, sum = 0;
	void *m = bpf_map_lookup_elem(&outer_hash, &key);

	if (!m || bpf_map_lookup_elem(&outer_hash, &none))
		return -1;
	bpf_map_update_elem(m, &a, &v, BPF_ANY);
	v = 20;
	bpf_map_update_elem(m, &b, &v, BPF_ANY);
	bpf_for_each_map_elem(m, sum_values, &sum, 0);
	bpf_map_delete_elem(m, &b);
	bpf_map_delete_elem(m, &a);
	return sum;
}

struct wide {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__uint(value_size, 24);
};

struct wide wide_a SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct wide);
} outer_wide SEC(".maps") = {
	.values = {[0] = (void *)&wide_a},
};

// one lookup in what is, from call to call, a map of one kind, a map of another, or a map that is in none
static __noinline u64 *value_in(void *m, u32 i)
{
	return bpf_map_lookup_elem(m, &i);
}

SEC("tc") __success __retval(321) int either_map(struct __sk_buff *ctx)
{
	u32 zero = 0, i = 3;
	u64 v[3], *p;
	long sum = 0;
	void *m;

	v[0] = 300, v[1] = v[2] = 0; // no initialiser: old compilers put it into a map
	bpf_map_update_elem(&wide_a, &i, v, BPF_ANY);
	v[0] = 20;
	bpf_map_update_elem(&inner_a, &i, v, BPF_ANY);
	v[0] = 1;
	bpf_map_update_elem(&inner_b, &i, v, BPF_ANY);
	m = bpf_map_lookup_elem(&outer_wide, &zero);
	p = m ? value_in(m, i) : NULL;
	sum += p ? *p : 0;
	m = bpf_map_lookup_elem(&outer_array, &zero);
	p = m ? value_in(m, i) : NULL;
	sum += p ? *p : 0;
	p = value_in(&inner_b, i);
	sum += p ? *p : 0;
	if (m && (value_in(m, 4) || value_in(&inner_b, 4)))
		return -1;
	v[0] = 0;
	bpf_map_update_elem(&inner_a, &i, v, BPF_ANY);
	return sum;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(map_flags, BPF_F_INNER_MAP);
	__type(key, u32);
	__type(value, u64);
} short_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 8);
		__uint(map_flags, BPF_F_INNER_MAP);
		__type(key, u32);
		__type(value, u64);
	});
} outer_short SEC(".maps") = {
	.values = {[0] = (void *)&short_map},
};

// an array that is shorter than its template has only its own elements
SEC("tc") __success __retval(110) int shorter_than_template(struct __sk_buff *ctx)
{
	u32 zero = 0, i;
	int sum = 0;
	void *m = bpf_map_lookup_elem(&outer_short, &zero);

	if (!m)
		return -1;
	i = 1;
	if (bpf_map_lookup_elem(m, &i))
		sum += 10;
	i = 2;
	if (!bpf_map_lookup_elem(m, &i))
		sum += 100;
	i = 7;
	if (bpf_map_lookup_elem(m, &i))
		sum += 1000;
	return sum;
}

// the value at mark in the first map of the array, for tests that change the map meanwhile
SEC("tc") __success __retval(0) int found_value(struct __sk_buff *ctx)
{
	u32 first = 0, i = ctx->mark;
	u64 *p;
	void *m = bpf_map_lookup_elem(&outer_array, &first);

	if (!m)
		return -1;
	p = bpf_map_lookup_elem(m, &i);
	return p ? *p : -2;
}

LICENSE;
