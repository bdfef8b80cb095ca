// What the test programs of this directory share: types, helpers, map macros, annotations for `skep test`, and the
// way to write functions of up to twelve parameters for compilers that refuse them in C (clang 14 to 22).
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef signed short s16;
typedef signed int s32;
typedef signed long long s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u64 size_t;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define __noinline __attribute__((noinline))
#define __always_inline inline __attribute__((always_inline))
#define __weak __attribute__((weak))
#define __hidden __attribute__((visibility("hidden")))
#define __ksym __attribute__((section(".ksyms")))
#define __kconfig __attribute__((section(".kconfig")))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define LICENSE char _license[] SEC("license") = "Dual BSD/GPL"

#define bpf_htons(x) __builtin_bswap16(x)
#define NULL ((void *)0)

// Annotations: BTF declaration tags in the kernel's form (docs: what `skep test` reads). A counter keeps equal tags
// apart.
#define __str1(x) #x
#define __str(x) __str1(x)
#define __tag(text) __attribute__((btf_decl_tag("comment:test_" text)))
#define __success __tag("expect_success")
#define __failure __tag("expect_failure")
#define __msg(text) __tag("expect_msg=" __str(__COUNTER__) "=" text)
#define __retval(v) __tag("retval=" #v)
#define __description(text) __tag("description=" text)
#define __auxiliary __tag("auxiliary") // no test of its own
#define __log_level(n) __tag("log_level=" #n)
#define __btf_path(file) __tag("btf_path=" file) // what CO-RE is resolved against, in this directory
#define __flag(f) __tag("prog_flags=" #f)

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PROG_ARRAY = 3, BPF_MAP_TYPE_PERCPU_HASH = 5, BPF_MAP_TYPE_PERCPU_ARRAY = 6 };
enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 off, void *to, u32 len) = (void *)26;

// The head of the kernel's context structures, by their UAPI offsets.
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex,
		tc_index, cb[5], hash, tc_classid, data, data_end;
};

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index;
};

struct ethhdr {
	u8 dst[6], src[6];
	__be16 proto;
} __attribute__((packed));

struct iphdr {
	u8 ihl_version, tos;
	__be16 tot_len, id, frag_off;
	u8 ttl, protocol;
	u16 check;
	__be32 saddr, daddr;
};

// Arguments 6..12 of a call, and of the function that is running. Stores stand right before the call; loads before
// any store or call. The parameters of such a function are declared in C and not named in its body: the compiler drops
// them from the code and leaves them in the BTF, where the verifier finds them.
#define stack_arg_store(n, value) asm volatile("*(u64 *)(r11 - %0) = %1" ::"i"(8 * ((n) - 5)), "r"((long)(value)) : "memory")
#define stack_arg_load(n) ({ long __x; asm volatile("%0 = *(u64 *)(r11 + %1)" : "=r"(__x) : "i"(8 * ((n) - 5))); __x; })
