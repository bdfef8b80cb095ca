// A cache whose entries expire: each has a timer that takes it out.
#include "skep_test.h"

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nsecs, u64 flags) = (void *)171;

enum { CLOCK_MONOTONIC = 1 };

struct entry {
	u64 value;
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct entry);
} entries SEC(".maps");

// What Go passes in and gets back; timercache.go has the same.
struct request {
	u64 key, value;
	u64 ttl; // nanoseconds
	u64 found;
};

u64 expired;

static int expire(void *map, u64 *key, struct entry *e)
{
	bpf_map_delete_elem(map, key);
	__sync_fetch_and_add(&expired, 1);
	return 0;
}

// An entry that is there is replaced, and its timer with it.
SEC("syscall") int put(struct request *r)
{
	u64 key = r->key;
	struct entry *e, fresh = {.value = r->value};
	long err = bpf_map_update_elem(&entries, &key, &fresh, 0);

	if (err)
		return err;
	e = bpf_map_lookup_elem(&entries, &key);
	if (!e)
		return -2;
	err = bpf_timer_init(&e->timer, &entries, CLOCK_MONOTONIC);
	if (!err)
		err = bpf_timer_set_callback(&e->timer, expire);
	if (!err)
		err = bpf_timer_start(&e->timer, r->ttl, 0);
	return err;
}

SEC("syscall") int get(struct request *r)
{
	u64 key = r->key;
	struct entry *e = bpf_map_lookup_elem(&entries, &key);

	r->found = e != NULL;
	if (e)
		r->value = e->value;
	return 0;
}

LICENSE;
