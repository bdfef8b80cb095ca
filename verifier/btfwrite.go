package verifier

// This file says which fields of the kernel's structures programs may write (btf_struct_access of the program type).

// writeKernelField checks a write of size bytes at off through r.
func (e *env) writeKernelField(r *reg, off, size int) error {
	return e.reject(CodePermission, "only read is supported")
}
