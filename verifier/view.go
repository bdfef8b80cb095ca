package verifier

// StateView is what the concrete-against-abstract test sees of a state: the registers of the innermost frame.
type StateView struct {
	Regs [11]RegView
}

// RegView is one register: whether its value is constrained at all, and by which bounds.
type RegView struct {
	// Known is false where the register is not initialised: then nothing is claimed.
	Known          bool
	Scalar         bool // else a pointer: only Off, the distance from Base, is claimed
	Tnum           struct{ Value, Mask uint64 }
	Umin, Umax     uint64
	Smin, Smax     int64
	U32min, U32max uint32
	S32min, S32max int32
	Kind           PtrKind // of a pointer
	OrNull         bool
}
