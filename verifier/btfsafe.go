package verifier

import "github.com/cilium/ebpf/btf"

// safety says how far a pointer in a structure can be relied on, although no tag in the types says so. The kernel has lists of such
// fields, as structures of its BTF that are named like the one that they are about, with these suffixes (BTF_TYPE_SAFE_RCU and its
// like in verifier.c).
type safety uint8

const (
	safeNot           safety = iota
	safeRCU                  // valid inside of an RCU section, never NULL
	safeRCUOrNull            // the same, but it can be NULL
	safeTrusted              // valid wherever the structure is, never NULL
	safeTrustedOrNull        // the same, but it can be NULL
)

// safeLists are the suffixes, in the order in which they count.
var safeLists = [...]struct {
	suffix string
	is     safety
}{
	{"__safe_trusted", safeTrusted}, {"__safe_trusted_or_null", safeTrustedOrNull},
	{"__safe_rcu", safeRCU}, {"__safe_rcu_or_null", safeRCUOrNull},
}

// fieldSafety looks up the pointer that a walk found in parent, a structure of the kernel (btf_nested_type_is_trusted).
func (e *env) fieldSafety(parent btf.Type, w *walked) safety {
	for _, l := range safeLists {
		var s *btf.Struct
		if err := e.kernel.TypeByName(parent.TypeName()+l.suffix, &s); err != nil {
			continue
		}
		for _, m := range s.Members {
			p, ok := m.Type.(*btf.Pointer)
			if ok && m.Name == w.field && skipModifiers(p.Target, true) == w.target {
				return l.is
			}
		}
	}
	return safeNot
}
