package helpers

import "github.com/cilium/ebpf"

// Helpers that the kernel has and whose calls the verifier cannot check yet. Programs that call them are refused by name.

const needsProgram = "program types that have it"

// Of types with a fixed context none has these here: they belong to others (infrared remotes, tracing, struct_ops, LSM), or
// depend on how the kernel was configured (override_return, probe_write_user).
var _ = declare(
	outside(36, "probe_write_user"), outside(58, "override_return"), outside(77, "rc_repeat"), outside(78, "rc_keydown"),
	outside(92, "rc_pointer_rel"),
)

func outside(id int32, name string) proto {
	return missing(needsProgram, sig(id, name, []ebpf.ProgramType{}))
}
