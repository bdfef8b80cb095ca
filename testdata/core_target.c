// The BTF that core.c is relocated against: another layout of the same structure.
struct skep_core {
	unsigned long long inserted;
	unsigned int first;
	unsigned long long moved;
} skep_core_instance;
