// A load balancer for XDP. The address that a packet goes to finds a service by its longest prefix; the service has a map of backends of its
// own; each protocol has a program of its own, reached by a tail call. A connection stays with its backend.
#include "skep_test.h"

enum { BPF_MAP_TYPE_LPM_TRIE = 11, BPF_MAP_TYPE_HASH_OF_MAPS = 13, BPF_F_NO_PREALLOC = 1 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17, MAX_BACKENDS = 16 };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, u32);
} protocols SEC(".maps");

struct prefix {
	u32 bits;
	__be32 addr;
};

struct service {
	u32 id, backends;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct service);
} services SEC(".maps");

struct backend {
	__be32 addr;
	u8 mac[6];
	u16 port; // 0: as it is
	u64 packets;
};

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_BACKENDS);
	__type(key, u32);
	__type(value, struct backend);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 64);
	__type(key, u32);
	__array(values, struct inner);
} backends SEC(".maps");

struct ports {
	__be16 source, dest;
};

static __always_inline u32 mix(u32 h, u32 v)
{
	h ^= v;
	return h * 16777619;
}

// fold adds the difference of two words to an Internet checksum (RFC 1624).
static __always_inline u16 fold(u16 check, u32 from, u32 to)
{
	u32 sum = (u16)~check + (u16)~from + (u16)(~from >> 16) + (u16)to + (to >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// balance sends a packet to a backend of the service that its address belongs to; check is where its protocol has a checksum.
static __always_inline int balance(struct xdp_md *ctx, u32 check)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct ports *p = (void *)(ip + 1);
	u16 *sum = (void *)(ip + 1) + check;
	struct prefix key = {.bits = 32};
	struct service *s;
	struct backend *b;
	void *of;
	u32 i, old;

	if ((void *)(p + 1) > end || (void *)(sum + 1) > end)
		return XDP_DROP;
	key.addr = ip->daddr;
	s = bpf_map_lookup_elem(&services, &key);
	if (!s || !s->backends)
		return XDP_PASS; // nobody's
	of = bpf_map_lookup_elem(&backends, &s->id);
	if (!of)
		return XDP_PASS;
	i = mix(mix(mix(2166136261u, ip->saddr), p->source), p->dest);
	i = (i ^ i >> 16) % s->backends;
	b = bpf_map_lookup_elem(of, &i);
	if (!b || !b->addr)
		return XDP_DROP;
	__sync_fetch_and_add(&b->packets, 1);
	old = ip->daddr;
	ip->daddr = b->addr;
	ip->check = fold(ip->check, old, b->addr);
	if (*sum || ip->protocol == IPPROTO_TCP) { // UDP without a checksum stays so
		*sum = fold(*sum, old, b->addr);
		if (b->port)
			*sum = fold(*sum, p->dest, b->port);
	}
	if (b->port)
		p->dest = b->port;
	__builtin_memcpy(eth->src, eth->dst, 6);
	__builtin_memcpy(eth->dst, b->mac, 6);
	return XDP_TX;
}

SEC("xdp") int tcp(struct xdp_md *ctx) { return balance(ctx, 16); }
SEC("xdp") int udp(struct xdp_md *ctx) { return balance(ctx, 6); }

SEC("xdp") int balancer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > end || eth->proto != bpf_htons(0x0800))
		return XDP_PASS;
	if (ip->ihl_version != 0x45 || ip->frag_off & bpf_htons(0x3fff))
		return XDP_PASS; // options and fragments are the stack's
	bpf_tail_call(ctx, &protocols, ip->protocol);
	return XDP_PASS;
}

LICENSE;
