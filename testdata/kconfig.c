// Variables of the kernel's configuration: one that everyone has, a weak one that nobody has.
#include "skep_test.h"

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_SKEP_NO_SUCH_OPTION __kconfig __weak;

SEC("socket") __success int version(struct __sk_buff *ctx)
{
	return LINUX_KERNEL_VERSION;
}

SEC("socket") __success __retval(0) int missing(struct __sk_buff *ctx)
{
	return CONFIG_SKEP_NO_SUCH_OPTION;
}

LICENSE;
