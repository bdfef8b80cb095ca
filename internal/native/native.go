// Package native runs compiled programs: it keeps their code in executable memory that is never writable, gives each
// run a guarded machine stack, enters the code and comes back for host functions, at yield points and at the end, and
// turns machine faults into errors. It knows no BPF beyond what internal/ir and the compilers say.
//
// How it works, and what was measured, stands in RATIONALE.md.
package native
