package verifier

import "github.com/skep-bpf/skep/internal/progtype"

// This file has what depends on the program's type, or, for a program that runs in a place of an application, on what that hook permits.

// writesPacket reports whether the program may store into the packet.
func (e *env) writesPacket() bool {
	if h := e.prog.Hook; h != nil {
		return h.PacketWrite
	}
	return progtype.DirectPacketWrite(e.prog.Type)
}

// passesPacket reports whether the program may pass packet pointers as memory to a helper; takes says whether that is made for it.
func (e *env) passesPacket(takes bool) bool {
	if e.prog.Hook != nil {
		return takes
	}
	return progtype.HelperPacketAccess(e.prog.Type, takes)
}

// protoFor returns the prototype of helper h that the program has, nil if it does not have the helper.
func (e *env) protoFor(h *HelperProto) *HelperProto {
	switch hook := e.prog.Hook; {
	case hook != nil && hook.HasHelper(h.ID):
		return h
	case hook != nil, e.noHelpers(), !h.Reaches(e.prog.Type, e.prog.AttachTo):
		return nil
	}
	return h.In(e.prog.Type, e.prog.AttachType)
}

// maySleep reports whether the program can be sleepable.
func (e *env) maySleep() bool {
	if h := e.prog.Hook; h != nil {
		return h.Sleepable
	}
	return progtype.MaySleep(e.prog.Type, e.prog.AttachType)
}

// deniedKfunc reports whether the program's hook does not let it call a registered kfunc.
func (e *env) deniedKfunc(name string) bool { return e.prog.Hook != nil && !e.prog.Hook.HasKfunc(name) }
