// Helpers on socket buffers and XDP packets beside the packet's bytes: one program for each, run here and in the kernel on the same packets.
// Each call's result goes to a field of its own.
#include "skep_test.h"

struct key {
	u32 id, remote[4];
	u8 tos, ttl;
	u16 ext;
	u32 label, local[4];
};

static long (*const change_type)(void *, u32) = (void *)32;
static long (*const csum_update)(void *, u32) = (void *)40;
static long (*const csum_level)(void *, u64) = (void *)135;
static u32 (*const get_hash_recalc)(void *) = (void *)34;
static void (*const set_hash_invalid)(void *) = (void *)41;
static long (*const set_hash)(void *, u32) = (void *)48;
static long (*const ecn_set_ce)(void *) = (void *)97;
static long (*const set_tstamp)(void *, u64, u32) = (void *)192;
static long (*const get_tunnel_key)(void *, void *, u32, u64) = (void *)20;
static long (*const set_tunnel_key)(void *, void *, u32, u64) = (void *)21;
static long (*const get_tunnel_opt)(void *, void *, u32) = (void *)29;
static long (*const set_tunnel_opt)(void *, void *, u32) = (void *)30;
static long (*const check_mtu)(void *, u32, u32 *, s32, u64) = (void *)163;
static long (*const redirect_peer)(u32, u64) = (void *)155;
static long (*const redirect_neigh)(u32, void *, int, u64) = (void *)152;
static u64 (*const xdp_get_buff_len)(void *) = (void *)188;
static u32 (*const get_route_realm)(void *) = (void *)24;
static u32 (*const get_cgroup_classid)(void *) = (void *)17;
static u64 (*const skb_cgroup_classid)(void *) = (void *)151;
static long (*const bpf_strncmp)(const char *, u32, const char *) = (void *)182;
static u64 (*const skb_cgroup_id)(void *) = (void *)79;
static u64 (*const skb_ancestor_cgroup_id)(void *, int) = (void *)83;
static u32 (*const get_socket_uid)(void *) = (void *)47;

struct {
	__uint(type, 2); // array
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64[64]);
} out SEC(".maps");

#define OUT                                                   \
	u32 zero = 0;                                         \
	u64 *v = bpf_map_lookup_elem(&out, &zero);            \
	if (!v)                                               \
		return -1;

SEC("tc") int types(struct __sk_buff *skb)
{
	OUT
	v[0] = skb->pkt_type;
	v[1] = change_type(skb, 1);
	v[2] = skb->pkt_type;
	v[3] = change_type(skb, 4);
	v[4] = change_type(skb, 3);
	v[5] = skb->pkt_type;
	v[6] = change_type(skb, 1 << 16);
	v[7] = change_type(skb, 0);
	v[8] = skb->pkt_type;
	return 0;
}

SEC("tc") int checksums(struct __sk_buff *skb)
{
	OUT
	v[0] = csum_update(skb, 1);
	for (u64 i = 0; i < 5; i++)
		v[1 + i] = csum_level(skb, i);
	v[7] = csum_level(skb, 0);
	return 0;
}

SEC("tc") int hashes(struct __sk_buff *skb)
{
	OUT
	u32 h;

	v[0] = skb->hash;
	v[1] = set_hash(skb, 77);
	v[2] = skb->hash;
	v[3] = get_hash_recalc(skb);
	set_hash_invalid(skb);
	v[4] = skb->hash;
	h = get_hash_recalc(skb);
	v[5] = h == skb->hash; // the number itself is the kernel's, by a secret
	v[6] = get_hash_recalc(skb) == h;
	return 0;
}

SEC("tc") int ecn(struct __sk_buff *skb)
{
	OUT
	v[0] = ecn_set_ce(skb);
	v[1] = ecn_set_ce(skb);
	return 0;
}

SEC("cgroup_skb/ingress") int ecn_cgroup(struct __sk_buff *skb)
{
	OUT
	v[0] = ecn_set_ce(skb);
	return 0;
}

#define TSTAMP (*(volatile u64 *)((char *)skb + 152))

SEC("tc") int tstamps(struct __sk_buff *skb)
{
	OUT
	v[0] = TSTAMP;
	v[1] = set_tstamp(skb, 5, 0);
	v[2] = set_tstamp(skb, 0, 0);
	v[3] = set_tstamp(skb, 9, 1);
	v[4] = TSTAMP;
	v[5] = set_tstamp(skb, 0, 1);
	v[6] = set_tstamp(skb, 10, 2);
	v[7] = TSTAMP;
	v[8] = set_tstamp(skb, 10, 3);
	v[9] = set_tstamp(skb, 10, 4);
	v[10] = set_tstamp(skb, 0, 0);
	v[11] = TSTAMP;
	return 0;
}

#define GET(at, size, flags)                                       \
	k = (struct key){.id = 0xaaaaaaaa, .remote = {1, 2, 3, 4}, .tos = 9, .ttl = 9, .ext = 9, .label = 9, .local = {5, 6, 7, 8}}; \
	v[at] = get_tunnel_key(skb, &k, size, flags);              \
	__builtin_memcpy(&v[at + 1], &k, sizeof(k));

SEC("tc") int tunnel_none(struct __sk_buff *skb)
{
	OUT
	struct key k;
	u32 opt[2] = {1, 2};

	GET(0, sizeof(k), 0)
	GET(8, 28, 1)
	v[20] = get_tunnel_opt(skb, opt, sizeof(opt));
	__builtin_memcpy(&v[21], opt, sizeof(opt));
	opt[0] = 3;
	v[22] = set_tunnel_opt(skb, opt, sizeof(opt));
	return 0;
}

SEC("tc") int tunnel4(struct __sk_buff *skb)
{
	OUT
	struct key k = {.id = 42, .remote = {0x0a000001, 0, 0, 0}, .tos = 3, .ttl = 64, .local = {0x0a000002, 0, 0, 0}};

	v[0] = set_tunnel_key(skb, &k, sizeof(k), 0);
	GET(1, sizeof(k), 0)
	GET(8, 28, 0)
	GET(15, 24, 0)
	GET(22, 22, 0)
	GET(29, 8, 0)
	GET(36, 20, 0)
	GET(43, sizeof(k), 1)
	GET(50, sizeof(k), 1 << 4)
	v[57] = get_tunnel_key(skb, &k, sizeof(k), 2);
	return 0;
}

SEC("tc") int tunnel6(struct __sk_buff *skb)
{
	OUT
	struct key k = {.id = 42, .remote = {1, 2, 3, 4}, .tos = 3, .ttl = 64, .label = 0x123, .local = {5, 6, 7, 8}};

	v[0] = set_tunnel_key(skb, &k, sizeof(k), 1);
	GET(1, sizeof(k), 1)
	GET(8, 28, 1)
	GET(15, 8, 1)
	GET(22, sizeof(k), 0)
	GET(29, sizeof(k), 1 | 1 << 4)
	return 0;
}

// Every flag and every length of a key.
SEC("tc") int tunnel_set(struct __sk_buff *skb)
{
	OUT
	struct key k = {.id = 1};

	v[0] = set_tunnel_key(skb, &k, 44, 0);
	v[1] = set_tunnel_key(skb, &k, 28, 0);
	v[2] = set_tunnel_key(skb, &k, 24, 0);
	v[3] = set_tunnel_key(skb, &k, 22, 0);
	v[4] = set_tunnel_key(skb, &k, 8, 0);
	v[5] = set_tunnel_key(skb, &k, 20, 0);
	v[6] = set_tunnel_key(skb, &k, 4, 0);
	for (u64 i = 0; i < 7; i++)
		v[7 + i] = set_tunnel_key(skb, &k, 44, 1 << i);
	k.label = 5;
	v[15] = set_tunnel_key(skb, &k, 44, 0);
	v[16] = set_tunnel_key(skb, &k, 44, 1);
	k.ext = 1;
	v[17] = set_tunnel_key(skb, &k, 44, 1);
	k.ext = 0;
	k.label = 0;
	v[18] = set_tunnel_key(skb, &k, 44, 2 | 4 | 8); // zero checksum, do not fragment, sequence number
	GET(19, 44, 1 << 4)
	k.id = 1;
	k.ext = 0;
	k.label = 0;
	v[26] = set_tunnel_key(skb, &k, 44, 1 << 4); // no key
	GET(27, 44, 1 << 4)
	return 0;
}

SEC("tc") int tunnel_opt(struct __sk_buff *skb)
{
	OUT
	struct key k = {.id = 1};
	u32 opt[4] = {1, 2, 3, 4};

	v[0] = set_tunnel_key(skb, &k, sizeof(k), 0);
	v[1] = get_tunnel_opt(skb, opt, 16);
	opt[0] = 1, opt[1] = 2;
	v[2] = set_tunnel_opt(skb, opt, 7);
	v[3] = set_tunnel_opt(skb, opt, 8);
	v[4] = get_tunnel_opt(skb, opt, 4);
	__builtin_memcpy(&v[5], opt, 16);
	v[7] = get_tunnel_opt(skb, opt, 8);
	__builtin_memcpy(&v[8], opt, 16);
	opt[2] = 9;
	v[10] = get_tunnel_opt(skb, opt, 16);
	__builtin_memcpy(&v[11], opt, 16);
	GET(13, 44, 1 << 4)
	return 0;
}

#define MTU(at, ifindex, len, diff, flags)                        \
	mtu = len;                                                \
	v[at] = check_mtu(ctx, ifindex, &mtu, diff, flags);       \
	v[at + 1] = mtu;

SEC("tc") int mtu(struct __sk_buff *ctx)
{
	OUT
	u32 mtu;

	MTU(0, 0, 0, 0, 0)
	MTU(2, 1, 0, 0, 0)
	MTU(4, 9999, 7, 0, 0)
	MTU(6, 0, 65535, 0, 0)
	MTU(8, 0, 65536, 0, 0)
	MTU(10, 0, 65537, 0, 0)
	MTU(12, 0, 0, 65535, 0)
	MTU(14, 0, 0, -2000, 0)
	MTU(16, 0, 0, 0, 1)
	MTU(18, 0, 7, 0, 1)
	MTU(20, 0, 0, 7, 1)
	MTU(22, 0, 0, 0, 2)
	MTU(24, 0, 65530, 7, 0)
	MTU(26, 0, 0xffffffff, 0, 0)
	return 0;
}

SEC("xdp") int mtu_xdp(struct xdp_md *ctx)
{
	OUT
	u32 mtu;

	MTU(0, 0, 0, 0, 0)
	MTU(2, 1, 0, 0, 0)
	MTU(4, 9999, 7, 0, 0)
	MTU(6, 0, 65536, 0, 0)
	MTU(8, 0, 65537, 0, 0)
	MTU(10, 0, 0, 65535, 0)
	MTU(12, 0, 0, 0, 1)
	MTU(14, 0, 0, 0, 2)
	v[20] = xdp_get_buff_len(ctx);
	return 2;
}

SEC("tc") int redirects(struct __sk_buff *skb)
{
	OUT
	u32 nh[8] = {2, 1};

	v[0] = redirect_peer(1, 0);
	v[1] = redirect_peer(1, 1);
	v[2] = redirect_neigh(1, NULL, 0, 0);
	v[3] = redirect_neigh(1, NULL, 0, 1);
	v[4] = redirect_neigh(1, nh, 20, 0);
	v[5] = redirect_neigh(1, nh, 19, 0);
	v[6] = redirect_neigh(1, nh, 24, 0);
	return 0;
}

SEC("tc") int owners(struct __sk_buff *skb)
{
	OUT
	v[0] = get_route_realm(skb);
	v[1] = get_cgroup_classid(skb);
	v[2] = skb_cgroup_classid(skb);
	v[3] = skb_cgroup_id(skb);
	v[4] = skb_ancestor_cgroup_id(skb, 0);
	v[5] = skb_ancestor_cgroup_id(skb, 1);
	v[6] = get_socket_uid(skb);
	return 0;
}

struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority, src_ip4, src_ip6[4], src_port;
	u16 dst_port, pad;
	u32 dst_ip4, dst_ip6[4], state;
	s32 rx_queue_mapping;
};

static struct bpf_sock *(*const sk_fullsock)(void *) = (void *)95;
static u64 (*const tcp_sock)(void *) = (void *)96;
static u64 (*const get_listener_sock)(void *) = (void *)98;

#define SK (*(struct bpf_sock *volatile *)((char *)skb + 168))
#define FIELD(i, f) v[i] = ((volatile struct bpf_sock *)sk)->f

static __always_inline int socket(struct __sk_buff *skb)
{
	OUT
	struct bpf_sock *sk = SK;

	v[0] = sk != NULL;
	if (!sk)
		return 1;
	FIELD(1, family);
	FIELD(2, src_port);
	FIELD(3, dst_port);
	FIELD(4, src_ip4);
	FIELD(5, dst_ip4);
	FIELD(6, state);
	FIELD(7, rx_queue_mapping);
	for (int i = 0; i < 4; i++) {
		FIELD(8 + i, src_ip6[i]);
		FIELD(12 + i, dst_ip6[i]);
	}
	FIELD(16, bound_dev_if);
	v[17] = tcp_sock(sk) != 0;
	v[18] = get_listener_sock(sk) != 0;
	sk = sk_fullsock(sk);
	v[19] = sk != NULL;
	if (!sk)
		return 2;
	FIELD(20, type);
	FIELD(21, protocol);
	FIELD(22, mark);
	FIELD(23, priority);
	FIELD(24, dst_port);
	return 3;
}

SEC("tc") int socket_tc(struct __sk_buff *skb) { return socket(skb); }
SEC("cgroup_skb/ingress") int socket_cgroup(struct __sk_buff *skb) { return socket(skb) & 1; }

SEC("cgroup_skb/ingress") int addresses(struct __sk_buff *skb)
{
	OUT
	for (int i = 0; i < 13; i++) // family, remote_ip4, local_ip4, remote_ip6, local_ip6, remote_port, local_port
		v[i] = ((volatile u32 *)skb)[22 + i];
	return 1;
}

static long (*const change_tail)(void *, u32, u64) = (void *)38;
static long (*const change_head)(void *, u32, u64) = (void *)43;
static long (*const clone_redirect)(void *, u32, u64) = (void *)13;
static long (*const fib_lookup)(void *, void *, int, u32) = (void *)69;
static long (*const trace_vprintk)(const char *, u32, const void *, u32) = (void *)177;

#define TAIL(i, n, flags)                    \
	v[i] = change_tail(skb, n, flags);   \
	v[i + 1] = skb->len;

SEC("tc") int tails(struct __sk_buff *skb)
{
	OUT
	TAIL(0, 200, 1)
	TAIL(2, 13, 0)
	TAIL(4, 14, 0)
	TAIL(6, 50, 0)
	TAIL(8, 0, 0)
	TAIL(10, 1 << 20, 0)
	TAIL(12, 0xffffffff, 0)
	TAIL(14, 200, 0)
	TAIL(16, 60, 0)
	v[20] = skb->data_end - skb->data;
	return 0;
}

#define HEAD(i, n, flags)                    \
	v[i] = change_head(skb, n, flags);   \
	v[i + 1] = skb->len;

SEC("tc") int heads(struct __sk_buff *skb)
{
	OUT
	HEAD(0, 4, 1)
	HEAD(2, 0xffffffff, 0)
	HEAD(4, 0x7fffffff, 0)
	HEAD(6, 0, 0)
	HEAD(8, 14, 0)
	HEAD(10, 300, 0)
	v[20] = skb->data_end - skb->data;
	return 0;
}

SEC("tc") int clones(struct __sk_buff *skb)
{
	OUT
	v[0] = clone_redirect(skb, 9999, 0);
	v[1] = clone_redirect(skb, 1, 2);
	v[2] = clone_redirect(skb, 0, 0);
	return 0;
}

struct fib {
	u8 family, proto;
	u16 sport, dport, tot_len;
	u32 ifindex, tos, src[4], dst[4];
	u16 vlan, vlan_tci;
	u8 smac[6], dmac[6];
};

#define FIB(i, fam, index, size, flags)                                   \
	f = (struct fib){.family = fam, .ifindex = index, .dst = {0x0200000a}}; \
	v[i] = fib_lookup(ctx, &f, size, flags);

static __always_inline int routes(void *ctx)
{
	OUT
	struct fib f;

	FIB(0, 2, 1, sizeof(f), 0)
	FIB(1, 10, 1, sizeof(f), 0)
	FIB(2, 1, 1, sizeof(f), 0)
	FIB(3, 2, 9999, sizeof(f), 0)
	FIB(4, 10, 9999, sizeof(f), 0)
	FIB(5, 2, 1, sizeof(f) - 4, 0)
	FIB(6, 2, 1, sizeof(f), 1 << 10)
	FIB(7, 2, 1, sizeof(f), 1)
	FIB(8, 2, 0, sizeof(f), 0)
	return 0;
}

SEC("tc") int routes_tc(struct __sk_buff *skb) { return routes(skb); }
SEC("xdp") int routes_xdp(struct xdp_md *xdp) { return routes(xdp); }

SEC("tc") int prints(struct __sk_buff *skb)
{
	OUT
	static const char fmt[] = "%d %d %d %d";
	u64 a[5] = {1, 2, 3, 4, 5};

	v[0] = trace_vprintk(fmt, sizeof(fmt), a, 32);
	v[1] = trace_vprintk(fmt, sizeof(fmt), a, 24);
	v[2] = trace_vprintk(fmt, sizeof(fmt), a, 40);
	v[3] = trace_vprintk(fmt, sizeof(fmt), a, 31);
	v[4] = trace_vprintk(fmt, sizeof(fmt), NULL, 0);
	return 0;
}

static const char word[] = "plug", empty[] = "";

SEC("tc") int strings(struct __sk_buff *skb)
{
	OUT
	char a[] = "plug", b[] = "plum\0x", c[] = "plu", d[] = "\xffx";

	v[0] = bpf_strncmp(a, sizeof(a), word);
	v[1] = bpf_strncmp(b, sizeof(b), word);
	v[2] = bpf_strncmp(c, sizeof(c), word);
	v[3] = bpf_strncmp(c, 3, word);
	v[4] = bpf_strncmp(b, 3, word);
	v[5] = bpf_strncmp(a, sizeof(a), empty);
	v[6] = bpf_strncmp(d, sizeof(d), word);
	return 0;
}

static long (*const probe_read_kernel)(void *, u32, const void *) = (void *)113;
static long (*const probe_read_user)(void *, u32, const void *) = (void *)112;
static long (*const probe_read_kernel_str)(void *, u32, const void *) = (void *)115;
static long (*const probe_read_user_str)(void *, u32, const void *) = (void *)114;

#define PROBE(i, helper, n, from)                            \
	buf[0] = buf[1] = 0x5555555555555555;                \
	v[i] = helper(buf, n, (const void *)(from));         \
	v[i + 1] = buf[0];                                   \
	v[i + 2] = buf[1];

SEC("tc") int probes(struct __sk_buff *skb)
{
	OUT
	u64 buf[2], own = 0x1122334455667788;
	char text[16] = "abcdefghijk";

	PROBE(0, probe_read_kernel, 8, &own)
	PROBE(3, probe_read_kernel, 3, &own)
	PROBE(6, probe_read_kernel, 8, v)
	PROBE(9, probe_read_kernel, 8, 0)
	PROBE(12, probe_read_kernel, 8, 4096)
	PROBE(15, probe_read_kernel, 8, 0x800000000000)
	PROBE(18, probe_read_kernel, 8, 0x7ffffffff000)
	PROBE(21, probe_read_user, 8, 0)
	PROBE(24, probe_read_user, 8, 0x800000000000)
	PROBE(27, probe_read_kernel_str, 16, text)
	PROBE(30, probe_read_kernel_str, 4, text)
	PROBE(33, probe_read_kernel_str, 1, text)
	PROBE(36, probe_read_kernel_str, 12, text)
	PROBE(39, probe_read_kernel_str, 8, 0)
	PROBE(42, probe_read_user_str, 8, 16)
	PROBE(45, probe_read_kernel_str, 16, word)
	return 0;
}

LICENSE;
