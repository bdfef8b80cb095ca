package program

import (
	"sync"

	"github.com/cilium/ebpf/btf"
)

var hostTypes = sync.OnceValues(btf.LoadKernelSpec)

// HostTypes returns the types of the running kernel, nil where it has none to show.
func HostTypes() *btf.Spec {
	spec, err := hostTypes()
	if err != nil {
		return nil
	}
	return spec
}
