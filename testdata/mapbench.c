// What BenchmarkMaps measures: each program does the same operation ROUNDS times with random keys. Go fills the maps.
#include "skep_test.h"

#define ROUNDS 256

enum { BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_LPM_TRIE = 11, BPF_MAP_TYPE_ARRAY_OF_MAPS = 12, BPF_MAP_TYPE_HASH_OF_MAPS = 13, BPF_MAP_TYPE_QUEUE = 22 };
enum { BPF_F_NO_PREALLOC = 1 };

static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;

#define KEYED(name, kind, entries)            \
	struct {                              \
		__uint(type, kind);           \
		__uint(max_entries, entries); \
		__type(key, u32);             \
		__type(value, u64);           \
	} name SEC(".maps")

KEYED(array, BPF_MAP_TYPE_ARRAY, 8192);
KEYED(hash, BPF_MAP_TYPE_HASH, 16384);
KEYED(percpu, BPF_MAP_TYPE_PERCPU_ARRAY, 8192);
KEYED(lru, BPF_MAP_TYPE_LRU_HASH, 16384);
KEYED(lru_full, BPF_MAP_TYPE_LRU_HASH, 1024);

struct prefix {
	u32 len, addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, u64);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 64);
	__type(value, u64);
} queue SEC(".maps");

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct timed {
	struct bpf_timer timer;
};

struct {
	__uint(type, 2); // array
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct timed);
} timers SEC(".maps");

static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nsecs, u64 flags) = (void *)171;

static int late(void *map, u32 *key, struct timed *value) { return 0; }

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
};

struct inner inner_map SEC(".maps");

#define OUTER(name, kind)                         \
	struct {                                  \
		__uint(type, kind);               \
		__uint(max_entries, 8);           \
		__type(key, u32);                 \
		__array(values, struct inner);    \
	} name SEC(".maps")

OUTER(outer_array, BPF_MAP_TYPE_ARRAY_OF_MAPS) = {.values = {[0] = (void *)&inner_map, [1] = (void *)&inner_map, [2] = (void *)&inner_map, [3] = (void *)&inner_map}};
OUTER(outer_hash, BPF_MAP_TYPE_HASH_OF_MAPS) = {.values = {[0] = (void *)&inner_map, [1] = (void *)&inner_map, [2] = (void *)&inner_map, [3] = (void *)&inner_map}};

u64 state = 88172645463325252;

#define BENCH(name, ...)                                                              \
	SEC("xdp") __auxiliary int name(struct xdp_md *ctx)                           \
	{                                                                             \
		u64 x = state, found = 0;                                             \
                                                                                      \
		for (int i = 0; i < ROUNDS; i++) {                                    \
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;                      \
			__VA_ARGS__;                                                  \
		}                                                                     \
		state = x;                                                            \
		return found;                                                         \
	}

#define LOOKUP(map, mask)                                    \
	u32 key = x & (mask);                                \
	u64 *v = bpf_map_lookup_elem(&map, &key);            \
	if (v)                                               \
		found += *v

#define UPDATE(map, mask)                                    \
	u32 key = x & (mask);                                \
	found += bpf_map_update_elem(&map, &key, &x, 0)

#define NESTED(map)                                          \
	u32 key = x & 3;                                     \
	void *m = bpf_map_lookup_elem(&map, &key);           \
	if (m) {                                             \
		u64 *v = bpf_map_lookup_elem(m, &key);       \
		if (v)                                       \
			found += *v;                         \
	}

BENCH(nothing, found += x & 1)
BENCH(array_lookup, LOOKUP(array, 8191))
BENCH(hash_lookup, LOOKUP(hash, 8191))
BENCH(hash_update, UPDATE(hash, 8191))
BENCH(percpu_increment, u32 key = x & 8191; u64 *v = bpf_map_lookup_elem(&percpu, &key); if (v) *v += 1)
BENCH(lru_lookup, LOOKUP(lru, 8191))
BENCH(lru_update, UPDATE(lru, 8191))
BENCH(lru_evict, UPDATE(lru_full, 0xffffff))
BENCH(lpm_lookup, struct prefix p = {32, x}; u64 *v = bpf_map_lookup_elem(&routes, &p); if (v) found += *v)
BENCH(lpm_update, struct prefix p = {24, x}; found += bpf_map_update_elem(&routes, &p, &x, 0); found += bpf_map_delete_elem(&routes, &p))
BENCH(queue_push_pop, u64 y; found += bpf_map_push_elem(&queue, &x, 0); found += bpf_map_pop_elem(&queue, &y))
BENCH(array_of_maps, NESTED(outer_array))
BENCH(hash_of_maps, NESTED(outer_hash))

// A timer that is set again and again, an hour ahead.
SEC("xdp") __auxiliary int timer_start(struct xdp_md *ctx)
{
	u64 x = state, found = 0;
	u32 key = 0;
	struct timed *v = bpf_map_lookup_elem(&timers, &key);

	if (!v)
		return -1;
	bpf_timer_init(&v->timer, &timers, 1); // once
	bpf_timer_set_callback(&v->timer, late);
	for (int i = 0; i < ROUNDS; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		found += bpf_timer_start(&v->timer, 3600000000000ull + (x & 1023), 0);
	}
	state = x;
	return found;
}

LICENSE;
