package verifier

// This file keeps the references that a program holds: acquired from helpers and kfuncs, to be released before it ends.

// acquireRef makes a new reference (acquire_reference).
func (e *env) acquireRef() uint32 {
	e.idGen++
	e.st.refs = append(e.st.refs, refState{id: e.idGen, insn: int32(e.insn)})
	return e.idGen
}

// dropRef takes a reference off the list; false if it is not on it.
func (s *state) dropRef(id uint32) bool {
	for i := range s.refs {
		if !s.refs[i].kind.isLock() && s.refs[i].id == id {
			s.refs = append(s.refs[:i:i], s.refs[i+1:]...)
			return true
		}
	}
	return false
}

// releaseRef releases a reference: every pointer that stood for it, in registers, slots and stack arguments of every
// frame, becomes an unknown number (release_reference).
func (e *env) releaseRef(id uint32) bool {
	if !e.st.dropRef(id) {
		return false
	}
	e.st.eachReg(func(r *reg) {
		if r.ref == id {
			e.invalidate(r)
		}
	})
	return true
}

// checkLeaks rejects references and locks that are still held where the main function ends (check_reference_leak).
func (e *env) checkLeaks() error {
	if e.st.cur != 0 {
		return nil
	}
	return e.heldRefs("BPF_EXIT instruction in main prog")
}

// maxNamedRefs is how many references a message names; a program can hold as many as it has time for. The log has all.
const maxNamedRefs = 16

// heldRefs rejects if any reference or lock is held, or a section is open, where what would lose it (check_resource_leak).
func (e *env) heldRefs(what string) error {
	var err error
	for i, named := 0, 0; i < len(e.st.refs); i++ {
		const line = "Unreleased reference id=%d alloc_insn=%d"
		switch r := &e.st.refs[i]; {
		case r.kind != refObject:
			continue
		case err == nil:
			err = e.reject(CodeReference, line, r.id, r.insn)
		case named < maxNamedRefs:
			err = e.why(err, line, r.id, r.insn)
		default:
			e.log.printf(line+"\n", r.id, r.insn)
		}
		named++
	}
	switch {
	case err != nil:
		return e.why(err, "%s would lead to reference leak", what)
	case e.locked():
		return e.reject(CodeReference, "%s cannot be used inside bpf_spin_lock-ed region", what)
	}
	return e.openSections(what)
}
