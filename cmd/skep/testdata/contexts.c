// Programs whose context is bytes of the caller's, for skep run -ctx.
#define SEC(name) __attribute__((section(name), used))

char _license[] SEC("license") = "GPL";

struct bpf_sysctl {
	unsigned int write;
	unsigned int file_pos;
};

SEC("kprobe/f") int first_register(unsigned long *ctx)
{
	return ctx[0];
}

SEC("tracepoint/g/e") int record(unsigned int *ctx)
{
	return ctx[2];
}

SEC("cgroup/sysctl") int sysctl(struct bpf_sysctl *ctx)
{
	ctx->file_pos = ctx->file_pos + 1;
	return 1;
}
