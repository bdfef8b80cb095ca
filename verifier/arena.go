package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Arenas: up to 4 GiB of memory that programs use as their own. A pointer into one is 32 bits wide wherever it is used, any
// arithmetic on it is fine and every access too: what is not there reads as zero. Nothing is known of such a pointer
// but its kind, so that all of them are alike.

// noteArena keeps that the program has an arena: one at most.
func (e *env) noteArena(m *program.Map) error {
	switch {
	case m.Type != ebpf.Arena:
		return nil
	case e.arena:
		return e.reject(CodeTooComplex, "Only one arena per program")
	case e.lacks(CapBPF | CapPerfmon):
		return e.reject(CodePermission, "CAP_BPF and CAP_PERFMON are required to use arena")
	}
	e.arena = true
	return nil
}

const arenaPage = 4096

// checkArenaValue checks a pointer straight into an arena (arena_map_direct_value_addr).
func (e *env) checkArenaValue(m *program.Map, off uint32) error {
	if uint64(off) > uint64(m.MaxEntries)*arenaPage {
		return e.reject(CodeBounds, "invalid access to map value pointer, value_size=%d off=%d", m.ValueSize, off)
	}
	return nil
}

// addrSpaceCast makes a number a pointer into the arena (cast to address space 0), or a pointer the number by which user space
// knows it (cast to 1).
func (e *env) addrSpaceCast(in isa.Insn) error {
	if !e.arena {
		return e.reject(CodeType, "addr_space_cast insn can only be used in a program that has an associated arena")
	}
	if _, err := e.readReg(in.Src); err != nil {
		return err
	}
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	e.setUnknown(dst)
	if in.Imm == 1 {
		dst.typ = ptrToArena
	}
	return nil
}

// arenaALU is any operation with a pointer into the arena in it.
func arenaALU(dst, src *reg) {
	if dst.typ != ptrToArena {
		*dst = *src
	}
}

// arenaAtomic reports whether the kernel's compiler can make an atomic on an arena of in: where a fetch becomes a loop, as of and,
// or and xor on x86-64, it cannot (bpf_jit_supports_insn).
func (e *env) arenaAtomic(in isa.Insn) bool {
	if e.opt.Arch == "arm64" {
		return true
	}
	switch in.Imm {
	case isa.AtomicAND | isa.AtomicFETCH, isa.AtomicOR | isa.AtomicFETCH, isa.AtomicXOR | isa.AtomicFETCH:
		return false
	}
	return true
}
