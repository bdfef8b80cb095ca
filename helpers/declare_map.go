package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// Prototypes of helpers on storage of objects.

var _ = declare(
	variants(returns(verifier.RetMapValueOrNull, sig(107, "sk_storage_get", skStorageTypes, aMap, aSock, aValueNull, aAny)),
		returns(verifier.RetMapValueOrNull, sig(107, "sk_storage_get", only(ebpf.CGroupSock), aMap, aCtx, aValueNull, aAny)),
		returns(verifier.RetMapValueOrNull, sig(107, "sk_storage_get", iterTypes, aMap, aStructNull("sock_common"), aValueNull, aAny))),
	variants(sig(108, "sk_storage_delete", skStorageTypes, aMap, aSock),
		sig(108, "sk_storage_delete", iterTypes, aMap, aStructNull("sock_common"))),
)

var skStorageTypes = types(tcCgroupTypes, cgroupAddr, cgroupSockopt, only(ebpf.SkMsg, ebpf.SockOps, ebpf.StructOps, ebpf.LSM))
