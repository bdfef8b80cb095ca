// Methods of structures of the kernel, in the older section .struct_ops, and what else only programs by BTF have.
#include "skep_test.h"

struct sock;

struct tcp_congestion_ops {
	unsigned (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, unsigned ack, unsigned acked);
	char name[16];
	void (*init)(struct sock *sk);
};

SEC("struct_ops/ssthresh")
unsigned ssthresh(unsigned long long *ctx)
{
	return 2;
}

SEC("struct_ops/init")
void init(unsigned long long *ctx)
{
}

SEC("struct_ops/nowhere")
void nowhere(unsigned long long *ctx)
{
}

SEC(".struct_ops")
struct tcp_congestion_ops other = {.name = "other"};

SEC(".struct_ops")
struct tcp_congestion_ops ops = {
	.ssthresh = (void *)ssthresh,
	.init = (void *)init,
	.name = "skep",
};

LICENSE;
