// Timers, work queues and locks in values of maps. Go steps the clock and looks at the global variables.
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_wq {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_spin_lock {
	u32 val;
};

static void (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static void (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nsecs, u64 flags) = (void *)171;
static long (*const bpf_timer_cancel)(struct bpf_timer *timer) = (void *)172;

int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags) __weak __ksym;
int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __weak __ksym;
int bpf_wq_set_callback_impl(struct bpf_wq *wq, int(callback)(void *map, int *key, void *value), unsigned int flags, void *aux) __weak __ksym;

enum { CLOCK_MONOTONIC = 1, BPF_F_TIMER_ABS = 1 };

struct elem {
	u64 before;
	struct bpf_timer timer;
	u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, struct elem);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, struct elem);
} hash SEC(".maps");

struct locked {
	u64 before;
	struct bpf_spin_lock lock;
	u32 count;
	u64 same;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, struct locked);
} locks SEC(".maps");

struct work {
	u64 count;
	struct bpf_wq work;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct work);
} queue SEC(".maps");

u64 result, fired, last_key, last_time, cancelled, started;

SKEP_FUNC(long, weigh, long, a, long, b, long, c, long, d, long, e, long, f, long, g, long, h, long, i, long, j)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

// A timer's callback that calls a function of ten arguments, and starts itself again.
static int tick(void *map, u32 *key, struct elem *e)
{
	result = SKEP_CALL(weigh, 1, 2, 3, 4, 5, 6, 7, 8, 9, e->count);
	fired++;
	last_key = *key;
	last_time = bpf_ktime_get_ns();
	if (++e->count < 5)
		bpf_timer_start(&e->timer, 1000, 0);
	return 0;
}

SEC("tc") int start(struct __sk_buff *ctx)
{
	u32 key = ctx->mark;
	struct elem *e = bpf_map_lookup_elem(&array, &key);

	if (!e)
		return -1;
	if (bpf_timer_init(&e->timer, &array, CLOCK_MONOTONIC) || bpf_timer_set_callback(&e->timer, tick))
		return -2;
	return bpf_timer_start(&e->timer, 1000, 0);
}

// The element's key and value reach the callback; an absolute time.
SEC("tc") int start_hash(struct __sk_buff *ctx)
{
	u32 key = ctx->mark;
	struct elem *e, zero = {};

	bpf_map_update_elem(&hash, &key, &zero, 0);
	e = bpf_map_lookup_elem(&hash, &key);
	if (!e)
		return -1;
	if (bpf_timer_init(&e->timer, &hash, CLOCK_MONOTONIC) || bpf_timer_set_callback(&e->timer, tick))
		return -2;
	return bpf_timer_start(&e->timer, ctx->priority, BPF_F_TIMER_ABS);
}

static int counts(void *map, u32 *key, struct elem *e)
{
	fired += 100;
	return 0;
}

// One digit for each error, from the left: 1 for the one that is due.
SEC("tc") __success __retval(111111111) int errors(struct __sk_buff *ctx)
{
	u32 key = 3;
	struct elem *e = bpf_map_lookup_elem(&array, &key);
	int n = 0;

	if (!e)
		return -1;
	n = 10 * n + (bpf_timer_cancel(&e->timer) == -22);
	n = 10 * n + (bpf_timer_start(&e->timer, 0, 0) == -22);
	n = 10 * n + (bpf_timer_set_callback(&e->timer, counts) == -22);
	n = 10 * n + (bpf_timer_init(&e->timer, &array, 16) == -22);
	n = 10 * n + (bpf_timer_init(&e->timer, &array, 2) == -22);
	n = 10 * n + (bpf_timer_init(&e->timer, &array, CLOCK_MONOTONIC) == 0);
	n = 10 * n + (bpf_timer_init(&e->timer, &array, CLOCK_MONOTONIC) == -16);
	n = 10 * n + (bpf_timer_start(&e->timer, 0, 0) == -22);
	bpf_timer_set_callback(&e->timer, counts);
	n = 10 * n + (bpf_timer_start(&e->timer, 0, 4) == -22);
	return n;
}

// Cancelled while it waits, while it does not, and without a callback from then on.
SEC("tc") __success __retval(101) int cancel(struct __sk_buff *ctx)
{
	u32 key = 2;
	struct elem *e = bpf_map_lookup_elem(&array, &key);
	int n = 0;

	if (!e)
		return -1;
	bpf_timer_init(&e->timer, &array, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&e->timer, counts);
	bpf_timer_start(&e->timer, 1000000000, 0);
	n = 10 * n + bpf_timer_cancel(&e->timer);
	n = 10 * n + bpf_timer_cancel(&e->timer);
	n = 10 * n + (bpf_timer_start(&e->timer, 0, 0) == -22);
	return n;
}

static int cancels_itself(void *map, u32 *key, struct elem *e)
{
	cancelled = bpf_timer_cancel(&e->timer);
	fired++;
	return 0;
}

// Which function it is only the run knows.
SEC("tc") int either(struct __sk_buff *ctx)
{
	u32 key = 1;
	struct elem *e = bpf_map_lookup_elem(&array, &key);

	if (!e)
		return -1;
	bpf_timer_init(&e->timer, &array, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&e->timer, ctx->mark ? (void *)cancels_itself : (void *)counts);
	return bpf_timer_start(&e->timer, 0, 0);
}

static int works(void *map, int *key, void *value)
{
	struct work *w = value;

	w->count += *key + 1;
	fired++;
	return 0;
}

SEC("tc") __success int start_work(struct __sk_buff *ctx)
{
	u32 key = 1;
	struct work *w = bpf_map_lookup_elem(&queue, &key);

	if (!w)
		return -1;
	if (bpf_wq_init(&w->work, &queue, 0) && ctx->mark == 0)
		return -2;
	if (bpf_wq_set_callback_impl(&w->work, works, 0, NULL))
		return -3;
	started = bpf_wq_start(&w->work, 0) + bpf_wq_start(&w->work, 0);
	return bpf_wq_start(&w->work, 1);
}

// Two counters that are the same under the lock.
SEC("tc") int count(struct __sk_buff *ctx)
{
	u32 key = ctx->mark;
	struct locked *l = bpf_map_lookup_elem(&locks, &key);
	int differ;

	if (!l)
		return -1;
	bpf_spin_lock(&l->lock);
	differ = l->count != l->same;
	l->count++;
	l->same++;
	bpf_spin_unlock(&l->lock);
	return differ;
}

// The same of variables in a section, beside their lock.
struct bpf_spin_lock guard __attribute__((section(".bss.guarded")));
u64 left __attribute__((section(".bss.guarded"))), right __attribute__((section(".bss.guarded")));

SEC("tc") __success __retval(0) int count_variables(struct __sk_buff *ctx)
{
	int differ;

	bpf_spin_lock(&guard);
	differ = left != right;
	left++;
	right++;
	bpf_spin_unlock(&guard);
	return differ;
}

// A program that updates a value under its lock.
SEC("tc") int update(struct __sk_buff *ctx)
{
	struct locked v = {.count = ctx->mark, .same = ctx->mark};
	u32 key = 0;

	return bpf_map_update_elem(&locks, &key, &v, 4);
}

LICENSE;
