// A socket filter that keeps TCP and UDP to one port, with the legacy packet loads and with a helper.
#include "skep_test.h"

u64 load_byte(void *skb, u64 off) asm("llvm.bpf.load.byte");
u64 load_half(void *skb, u64 off) asm("llvm.bpf.load.half");
u64 load_word(void *skb, u64 off) asm("llvm.bpf.load.word");

static __always_inline u32 wanted(u32 protocol, u32 port)
{
	return (protocol == 6 || protocol == 17) && port == 53;
}

SEC("socket") __success __retval(0) int legacy(struct __sk_buff *skb)
{
	u32 header;

	if (load_half(skb, 12) != 0x0800)
		return 0;
	header = (load_byte(skb, 14) & 15) * 4;
	return wanted(load_byte(skb, 23), load_half(skb, 14 + header + 2)) ? -1 : 0;
}

SEC("socket") __success __retval(0) int with_helper(struct __sk_buff *skb)
{
	struct iphdr ip;
	__be16 proto, ports[2];

	if (bpf_skb_load_bytes(skb, 12, &proto, 2) || proto != bpf_htons(0x0800) || bpf_skb_load_bytes(skb, 14, &ip, sizeof(ip)) ||
	    bpf_skb_load_bytes(skb, 14 + (ip.ihl_version & 15) * 4, ports, sizeof(ports)))
		return 0;
	return wanted(ip.protocol, bpf_htons(ports[1])) ? -1 : 0;
}

LICENSE;
