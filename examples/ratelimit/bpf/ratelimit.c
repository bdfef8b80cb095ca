// A rate limiter as a plug-in of a web server, for a hook of the server's own: a bucket of tokens for each client. What it decides the server learns by a kfunc of twelve
// arguments, which is how much a log of such decisions wants.
#include "skep_test.h"
#include <skep/bpf_stack_args.h>

struct bpf_spin_lock {
	u32 val;
};

static void (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static void (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;

enum { BPF_MAP_TYPE_LRU_HASH = 9, NSEC = 1000000000, BPF_NOEXIST = 1 };

struct bucket {
	struct bpf_spin_lock lock;
	u32 denied;
	u64 tokens; // in billionths
	u64 last;   // when they were counted
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct bucket);
} buckets SEC(".maps");

// What the server passes in; ratelimit.go has the same, and the verifier sees to it that nobody writes to it or looks beyond.
struct request {
	u64 client, path;
	u32 method, cost;
	u64 bytes;
};

// Set by the server before it loads the plug-in: tokens for each second, and the most that a bucket holds.
volatile const u64 rate = 10, burst = 20;

SKEP_KFUNC(void, decided, u64, client, u64, path, u32, method, u32, cost, u64, bytes, u64, now, u64, last, u64, tokens, u64, rate, u64, burst,
	   u32, denied, u32, verdict);

// What is left of the tokens after a time, which came in since then.
static __always_inline u64 refill(u64 tokens, u64 since)
{
	u64 most = burst * NSEC;

	if (since > most / (rate ?: 1)) // also keeps the product in range
		return most;
	tokens += since * rate;
	return tokens > most ? most : tokens;
}

// 1: let it pass, 0: too many requests.
SEC("http/request") int admit(struct request *r)
{
	u64 client = r->client, now = bpf_ktime_get_ns(), want = (u64)r->cost * NSEC, last, tokens;
	struct bucket *b = bpf_map_lookup_elem(&buckets, &client);
	u32 denied, pass;

	if (!b) {
		struct bucket full = {.tokens = burst * NSEC, .last = now};

		bpf_map_update_elem(&buckets, &client, &full, BPF_NOEXIST); // somebody else may be faster
		b = bpf_map_lookup_elem(&buckets, &client);
		if (!b)
			return 0;
	}
	bpf_spin_lock(&b->lock);
	last = b->last;
	tokens = now > last ? refill(b->tokens, now - last) : b->tokens;
	pass = tokens >= want;
	if (pass)
		tokens -= want;
	else
		b->denied++;
	b->tokens = tokens;
	if (now > last)
		b->last = now;
	denied = b->denied;
	bpf_spin_unlock(&b->lock);
	SKEP_CALL(decided, client, r->path, r->method, r->cost, r->bytes, now, last, tokens / NSEC, rate, burst, denied, pass);
	return pass;
}

LICENSE;
