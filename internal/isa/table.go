package isa

// Kind is what an instruction does, apart from its operator and width.
type Kind uint8

// The kinds of instructions.
const (
	KindInvalid       Kind = iota
	KindALU                // dst = dst Op (src or imm)
	KindMov                // dst = src or imm
	KindMovSX              // dst = sign-extended low bits (Info.From) of src
	KindAddrSpaceCast      // dst = src, between address spaces of an arena
	KindNeg                // dst = -dst
	KindEndian             // dst = low imm bits of dst, swapped if the host's order differs from the one named
	KindBswap              // dst = low imm bits of dst, swapped
	KindLdImm64            // dst = 64-bit immediate; takes two slots
	KindLdAbs              // r0 = packet bytes at imm, in host order (legacy)
	KindLdInd              // r0 = packet bytes at src + imm (legacy)
	KindLoad               // dst = zero-extended memory at src + off
	KindLoadSX             // dst = sign-extended memory at src + off
	KindStore              // memory at dst + off = src
	KindStoreImm           // memory at dst + off = imm
	KindAtomic             // memory at dst + off Op= src, without the old value
	KindAtomicFetch        // the same; src = old value, zero-extended
	KindXchg               // src and memory at dst + off change places
	KindCmpxchg            // if memory at dst + off equals r0, it becomes src; r0 = old value
	KindLoadAcquire        // dst = memory at src + off, acquire
	KindStoreRelease       // memory at dst + off = src, release
	KindJump               // always
	KindJumpIf             // if dst Op (src or imm)
	KindMayGoto            // leaves the loop when its budget is used up
	KindCall               // helper, function of the program or kfunc, by src
	KindExit
)

// Roles says which registers an instruction reads and writes, by the field that names them. A call names none: it
// reads its arguments, writes r0 and clobbers r1..r5.
type Roles uint8

// The roles of an instruction's registers.
const (
	ReadsDst Roles = 1 << iota
	ReadsSrc
	WritesDst
	WritesSrc
	ReadsR0
	WritesR0
	ReadsR6 // legacy packet loads take the context from r6
)

// Version is the first -mcpu version of LLVM that has an instruction. V5 stands for what came behind v4 (addr_space_cast,
// load-acquire, store-release, may_goto).
type Version uint8

// Info describes an instruction. The zero Info is that of an invalid one.
type Info struct {
	Kind    Kind
	Roles   Roles
	Op      uint8   // AluADD.., or JmpJEQ.., of the kinds that have an operator
	Bits    uint8   // width of the operation or of the memory access: 8, 16, 32 or 64
	From    uint8   // KindMovSX: width of the source
	Signed  bool    // signed division or modulo
	SrcReg  bool    // the second operand is src, else imm (ALU, mov, jumps)
	Is32    bool    // registers are 32-bit subregisters: printed w, results are zero-extended
	Version Version // 1..5
}

// variant separates instructions that share an opcode by one of their other fields.
type variant struct {
	match func(Insn) bool
	info  Info
}

// table has for each opcode the plain meaning; variants[op] replaces it where one matches.
var (
	table    [256]Info
	variants [256][]variant
)

// Info returns the description of the instruction. Kind is KindInvalid if there is no such instruction; fields that
// the instruction does not use are not looked at (see Check).
func (in Insn) Info() Info {
	for i := range variants[in.Op] {
		if v := &variants[in.Op][i]; v.match(in) {
			return v.info
		}
	}
	return table[in.Op]
}

func init() {
	addALU()
	addMoves()
	addMemory()
	addAtomics()
	addJumps()
}

// addALU fills in the two-operand operations, negation and byte order.
func addALU() {
	for _, class := range []uint8{ClassALU, ClassALU64} {
		bits, w := uint8(64), class == ClassALU
		v := Version(1)
		if w {
			bits, v = 32, 3
		}
		for _, op := range []uint8{AluADD, AluSUB, AluMUL, AluDIV, AluOR, AluAND, AluLSH, AluRSH, AluMOD, AluXOR, AluARSH} {
			k := Info{Kind: KindALU, Op: op, Bits: bits, Is32: w, Roles: ReadsDst | WritesDst, Version: v}
			x := k
			x.SrcReg, x.Roles = true, k.Roles|ReadsSrc
			table[class|op|SrcK], table[class|op|SrcX] = k, x
			if op == AluDIV || op == AluMOD {
				sk, sx := k, x
				sk.Signed, sx.Signed, sk.Version, sx.Version = true, true, 4, 4
				addVariant(class|op|SrcK, offIs(1), sk)
				addVariant(class|op|SrcX, offIs(1), sx)
			}
		}
		table[class|AluNEG] = Info{Kind: KindNeg, Op: AluNEG, Bits: bits, Is32: w, Roles: ReadsDst | WritesDst, Version: v}
	}
	// Byte order: the width is the immediate, so Bits is per variant.
	for _, n := range []uint8{16, 32, 64} {
		e := Info{Kind: KindEndian, Op: AluEND, Bits: n, Roles: ReadsDst | WritesDst, Version: 1}
		x := e
		x.SrcReg = true // to big endian
		addVariant(ClassALU|AluEND|SrcK, immIs(int32(n)), e)
		addVariant(ClassALU|AluEND|SrcX, immIs(int32(n)), x)
		b := Info{Kind: KindBswap, Op: AluEND, Bits: n, Roles: ReadsDst | WritesDst, Version: 4}
		addVariant(ClassALU64|AluEND|SrcK, immIs(int32(n)), b)
	}
}

// addMoves fills in mov, its sign-extending forms, the address-space cast and the 64-bit immediate.
func addMoves() {
	for _, class := range []uint8{ClassALU, ClassALU64} {
		bits, w, v := uint8(64), class == ClassALU, Version(1)
		if w {
			bits, v = 32, 3
		}
		m := Info{Kind: KindMov, Op: AluMOV, Bits: bits, Is32: w, Roles: WritesDst, Version: v}
		x := m
		x.SrcReg, x.Roles = true, WritesDst|ReadsSrc
		table[class|AluMOV|SrcK], table[class|AluMOV|SrcX] = m, x
		for _, from := range []uint8{8, 16, 32} {
			if from == bits {
				continue
			}
			s := x
			s.Kind, s.From, s.Version = KindMovSX, from, 4
			addVariant(class|AluMOV|SrcX, offIs(int16(from)), s)
		}
		if !w {
			c := x
			c.Kind, c.Version = KindAddrSpaceCast, 5
			addVariant(class|AluMOV|SrcX, offIs(1), c)
		}
	}
	table[ClassLD|ModeIMM|SizeDW] = Info{Kind: KindLdImm64, Bits: 64, Roles: WritesDst, Version: 1}
}

// sizes are the access sizes with their widths.
var sizes = [...]struct{ field, bits uint8 }{{SizeB, 8}, {SizeH, 16}, {SizeW, 32}, {SizeDW, 64}}

// addMemory fills in loads, stores and legacy packet loads.
func addMemory() {
	for _, s := range sizes {
		table[ClassLDX|ModeMEM|s.field] = Info{Kind: KindLoad, Bits: s.bits, Roles: WritesDst | ReadsSrc, Version: 1}
		table[ClassSTX|ModeMEM|s.field] = Info{Kind: KindStore, Bits: s.bits, Roles: ReadsDst | ReadsSrc, SrcReg: true, Version: 1}
		table[ClassST|ModeMEM|s.field] = Info{Kind: KindStoreImm, Bits: s.bits, Roles: ReadsDst, Version: 1}
		if s.bits != 64 {
			table[ClassLDX|ModeMEMSX|s.field] = Info{Kind: KindLoadSX, Bits: s.bits, Roles: WritesDst | ReadsSrc, Version: 4}
			table[ClassLD|ModeABS|s.field] = Info{Kind: KindLdAbs, Bits: s.bits, Roles: ReadsR6 | WritesR0, Version: 1}
			table[ClassLD|ModeIND|s.field] = Info{Kind: KindLdInd, Bits: s.bits, Roles: ReadsR6 | ReadsSrc | WritesR0, Version: 1}
		}
	}
}

// addAtomics fills in read-modify-write instructions, which share two opcodes and differ in the immediate, and
// load-acquire and store-release, which come in all widths.
func addAtomics() {
	for _, s := range sizes {
		code := uint8(ClassSTX | ModeATOMIC | s.field)
		addVariant(code, immIs(AtomicLoadAcq), Info{Kind: KindLoadAcquire, Bits: s.bits, Roles: WritesDst | ReadsSrc, Version: 5})
		addVariant(code, immIs(AtomicStoreRel), Info{Kind: KindStoreRelease, Bits: s.bits, Roles: ReadsDst | ReadsSrc, Version: 5})
		if s.bits < 32 {
			continue
		}
		base := Info{Bits: s.bits, Roles: ReadsDst | ReadsSrc, SrcReg: true, Is32: s.bits == 32}
		for _, op := range []uint8{AtomicADD, AtomicOR, AtomicAND, AtomicXOR} {
			a := base
			a.Kind, a.Op, a.Version = KindAtomic, op, 3
			if op == AtomicADD {
				a.Version = 1
			}
			f := a
			f.Kind, f.Version = KindAtomicFetch, 3
			f.Roles |= WritesSrc
			addVariant(code, immIs(int32(op)), a)
			addVariant(code, immIs(int32(op)|AtomicFETCH), f)
		}
		x, c := base, base
		x.Kind, x.Roles, x.Version = KindXchg, base.Roles|WritesSrc, 3
		c.Kind, c.Roles, c.Version = KindCmpxchg, base.Roles|ReadsR0|WritesR0, 3
		addVariant(code, immIs(AtomicXCHG), x)
		addVariant(code, immIs(AtomicCMPXCHG), c)
	}
}

// addJumps fills in jumps, calls and exit.
func addJumps() {
	for _, class := range []uint8{ClassJMP, ClassJMP32} {
		bits, w, v := uint8(64), class == ClassJMP32, Version(1)
		if w {
			bits, v = 32, 3
		}
		for _, op := range []uint8{JmpJEQ, JmpJGT, JmpJGE, JmpJSET, JmpJNE, JmpJSGT, JmpJSGE, JmpJLT, JmpJLE, JmpJSLT, JmpJSLE} {
			k := Info{Kind: KindJumpIf, Op: op, Bits: bits, Is32: w, Roles: ReadsDst, Version: v}
			if !w && (op == JmpJLT || op == JmpJLE || op == JmpJSLT || op == JmpJSLE) {
				k.Version = 2
			}
			x := k
			x.SrcReg, x.Roles = true, ReadsDst|ReadsSrc
			table[class|op|SrcK], table[class|op|SrcX] = k, x
		}
	}
	table[ClassJMP|JmpJA] = Info{Kind: KindJump, Version: 1}
	table[ClassJMP32|JmpJA] = Info{Kind: KindJump, Version: 4}
	addVariant(ClassJMP|JmpJCOND, func(in Insn) bool { return in.Src == 0 }, Info{Kind: KindMayGoto, Version: 5})
	table[ClassJMP|JmpCALL] = Info{Kind: KindCall, Version: 1}
	table[ClassJMP|JmpEXIT] = Info{Kind: KindExit, Roles: ReadsR0, Version: 1}
}

func addVariant(op uint8, match func(Insn) bool, info Info) {
	variants[op] = append(variants[op], variant{match, info})
}

func offIs(n int16) func(Insn) bool { return func(in Insn) bool { return in.Off == n } }
func immIs(n int32) func(Insn) bool { return func(in Insn) bool { return in.Imm == n } }

// RegSet is a set of registers, bit n for register n.
type RegSet uint16

// Has reports whether r is in the set.
func (s RegSet) Has(r Reg) bool { return s>>r&1 != 0 }

// Reads returns the registers whose values the instruction reads by its fields. Of a call it returns none: what a call
// reads depends on the callee. The parameter registers r11 and r12 appear like any other.
func (in Insn) Reads() RegSet {
	r, s := in.Info().Roles, RegSet(0)
	if r&ReadsDst != 0 {
		s |= 1 << in.Dst
	}
	if r&ReadsSrc != 0 {
		s |= 1 << in.Src
	}
	if r&ReadsR0 != 0 {
		s |= 1 << R0
	}
	if r&ReadsR6 != 0 {
		s |= 1 << R6
	}
	return s
}

// Writes returns the registers that the instruction changes: of calls and legacy packet loads r0..r5, of which r1..r5
// hold nothing afterwards.
func (in Insn) Writes() RegSet {
	i, s := in.Info(), RegSet(0)
	if i.Roles&WritesDst != 0 {
		s |= 1 << in.Dst
	}
	if i.Roles&WritesSrc != 0 {
		s |= 1 << in.Src
	}
	if i.Roles&WritesR0 != 0 {
		s |= 1 << R0
	}
	switch i.Kind {
	case KindCall, KindLdAbs, KindLdInd:
		s |= 1<<R0 | 1<<R1 | 1<<R2 | 1<<R3 | 1<<R4 | 1<<R5
	}
	return s
}

// IsJump reports whether the instruction can go elsewhere than to the next slot, calls and exit excepted; then
// JumpTarget holds.
func (in Insn) IsJump() bool {
	switch in.Info().Kind {
	case KindJump, KindJumpIf, KindMayGoto:
		return true
	}
	return false
}
