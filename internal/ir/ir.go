// Package ir is the lowered form of a program that the compilers and the interpreter read: instructions that say what
// is meant, with every address, argument number and jump target resolved. It knows no object files, no BTF and no
// machine.
package ir

import "fmt"

// Insn is one instruction. It has a fixed size and holds no pointers. Which fields count is said at each Op.
type Insn struct {
	Imm  int64
	Off  int32 // displacement of an access; or target: an index into Program.Insns, or into Program.Funcs for Call
	PC   int32 // the BPF instruction it came from
	Op   Op
	Dst  uint8 // BPF register 0..10
	Src  uint8
	W    uint8 // width of the operation or access in bytes
	Sub  uint8 // Cond of Jcc; source width of Sext and Zext; number of arguments of a call; argument number
	Flag uint8
	_    [2]uint8
}

// Flags of an instruction.
const (
	// FlagImm: the second operand is Imm, not Src.
	FlagImm = 1 << iota
	// FlagSigned: a load sign-extends to 64 bits; ArgExt sign-extends.
	FlagSigned
	// FlagFetch: an atomic operation puts the old value into Src.
	FlagFetch
	// FlagKeyReg: a lookup's key is the lower half of Src itself.
	FlagKeyReg
	// FlagOwn: the access is not the program's but lowering's, to memory of the runtime (Program.Own, rt.HeldList).
	FlagOwn
	// FlagInside: control comes here only inside of the BPF instruction, whose registers may be changed already.
	FlagInside
)

// UseImm reports whether the second operand is the immediate.
func (in *Insn) UseImm() bool { return in.Flag&FlagImm != 0 }

// Signed reports FlagSigned.
func (in *Insn) Signed() bool { return in.Flag&FlagSigned != 0 }

// Fetch reports FlagFetch.
func (in *Insn) Fetch() bool { return in.Flag&FlagFetch != 0 }

// KeyInReg reports FlagKeyReg.
func (in *Insn) KeyInReg() bool { return in.Flag&FlagKeyReg != 0 }

// Op says what an instruction does. Operations of width 4 work on the lower halves and zero the upper half of Dst.
type Op uint8

// The operations. B stands for Src or Imm (FlagImm), W for the width.
const (
	Invalid Op = iota

	// Dst = B. W is 4 or 8. With W 8 and FlagImm all 64 bits of Imm count.
	Mov
	// Dst = Dst op B, W 4 or 8. Shift counts are taken modulo the width in bits. Division by zero gives 0, modulo by
	// zero leaves Dst (its lower half if W is 4); the signed forms wrap on the least value divided by -1.
	Add
	Sub
	Mul
	Div
	Mod
	SDiv
	SMod
	Or
	And
	Xor
	Lsh
	Rsh
	Arsh
	// Dst = -Dst, W 4 or 8.
	Neg
	// Dst = the lower Sub (1, 2, 4) bytes of Src, sign-extended to W (4 or 8; the rest is zero).
	Sext
	// Dst = the lower Sub (1, 2, 4) bytes of Src, zero-extended.
	Zext
	// Dst = the lower W (2, 4, 8) bytes of Dst reversed, zero-extended.
	Bswap
	// Dst = the address of function Off.
	FuncAddr

	// Dst = *(W *)(Src + Off), zero-extended or with FlagSigned sign-extended to 64 bits.
	Load
	// *(W *)(Dst + Off) = B.
	Store

	// Atomic operations on *(W *)(Dst + Off), W 4 or 8, sequentially consistent. FlagFetch: Src = old value.
	AtomicAdd
	AtomicOr
	AtomicAnd
	AtomicXor
	// Src and memory exchange values.
	AtomicXchg
	// if memory == r0 then memory = Src; r0 = old value (zero-extended).
	AtomicCmpXchg
	// Dst = *(W *)(Src + Off) with acquire order; *(W *)(Dst + Off) = Src with release order. W 1, 2, 4, 8.
	LoadAcquire
	StoreRelease

	// Go to Off.
	Jmp
	// If Dst cond B go to Off. W 4 or 8. Sub is the Cond.
	Jcc
	// If the frame's may_goto budget is used up go to Off, else count.
	MayGoto
	// Leave to the host if it asks: stands where a loop comes round.
	Yield
	// The run has thrown if Imm is 1, has not if it is 0.
	SetThrown
	// If the run has thrown go to Off.
	IfThrown

	// r0 = function Off(r1..r5 and the outgoing slots).
	Call
	// r0 = host function Imm (an rt.Handle), Sub arguments.
	CallHost
	// r0 = machine code at address Imm, called by the platform's C convention with Sub arguments.
	CallNative
	// Dst = incoming argument Sub (6..12).
	ArgLoad
	// Outgoing argument Sub (6..12) = B, 64 bits.
	ArgStore
	// Outgoing argument Sub (6..12) = its lower W bytes zero- or sign-extended.
	ArgExt

	// r0 = the address of the value in array map Off (index into Program.Maps) for the key at Src (r2), 0 if out of range.
	// FlagKeyReg: the key is Src.
	ArrayLookup
	// r0 = the slot number of this run.
	CPU
	// Dst = the address of what the run holds (rt.HeldList).
	Held
	// Leave this program for entry r3 of program array Off (index into Program.Maps); falls through if it cannot.
	TailCall
	// Return r0 from the function.
	Exit
	// Must never be reached: a fault.
	Trap

	NumOps
)

// Cond is the condition of a Jcc.
type Cond = uint8

// The conditions: Dst cond B.
const (
	EQ   Cond = iota
	NE        // !=
	GT        // unsigned >
	GE        // unsigned >=
	LT        // unsigned <
	LE        // unsigned <=
	SGT       // signed >
	SGE       // signed >=
	SLT       // signed <
	SLE       // signed <=
	SET       // Dst & B != 0
	NSET      // Dst & B == 0
	NumConds
)

// Func is one function: instructions [Start, End).
type Func struct {
	Name       string
	Start, End int
	Stack      int // bytes of BPF stack, a multiple of 8, at most 512
	InArgs     int // stack slots it receives, 0..7
	OutArgs    int // stack slots of the call in it that needs most, 0..7
	MayGoto    bool
	// Entry: a function beside the first that is entered from outside of the program, with the run's context in r1, and never called by it.
	Entry bool
}

// MapKind says how machine code can reach a map.
type MapKind uint8

// The kinds of map that lowering knows.
const (
	MapOther MapKind = iota
	MapArray
	MapPerCPUArray
	MapProgArray
	MapArrayOfMaps // its values are handles of maps
	MapRing        // a ring buffer (rt.Ring...): Base is where it begins, MaxEntries how many bytes of data it has
)

// Map is what the instructions ArrayLookup and TailCall need of a map. All memory is off the Go heap and lives as long
// as the program.
type Map struct {
	Kind       MapKind
	Base       uint64 // address of value 0, or of entry 0 of a program array (one word of code address an entry)
	Stride     uint32 // bytes from one value to the next
	MaxEntries uint32
	// PerCPUStride is the distance in bytes between the copies of a value for one execution slot and for the next.
	PerCPUStride uint64
	// Progs is set for a program array: the index that the interpreter finds its targets by.
	Progs ProgArray
}

// ProgArray is a program array as the interpreter sees it. *rt.ProgArray implements it.
type ProgArray interface {
	// Interp returns the interpreter's program at index i, nil if there is none.
	Interp(i uint64) any
}

// Region is memory that the program may touch wherever it runs: values of its maps.
type Region struct {
	Base, Size uint64
	ReadOnly   bool
	Name       string
}

// Program is a lowered program. Funcs[0] is the entry of its runs.
type Program struct {
	Name  string
	Insns []Insn
	Funcs []Func
	// Callbacks are the entries, as indices into Funcs, of functions that run on their own (timers, work queues). The context of such a run
	// is a CallbackContext.
	Callbacks []int
	Maps      []Map
	Regions   []Region
	// Own is memory of the runtime that instructions with FlagOwn touch, and no others.
	Own []Region
	// Reach find regions that the program may touch as well, beside Regions: those of maps that it finds in maps.
	Reach []Reach
}

// The context of a run that begins with a callback: its arguments, three words.
const (
	CallbackArgs    = 3
	CallbackContext = 8 * CallbackArgs // bytes
)

// IsEntry reports whether function i is entered from outside of the program.
func (p *Program) IsEntry(i int) bool { return i == 0 || p.Funcs[i].Entry }

// Reach finds the region that holds n bytes at addr. It is for engines that check accesses.
type Reach func(addr, n uint64) (Region, bool)

// MaxStack is the most stack that one function can have, in bytes: BPF stack (MAX_BPF_STACK), and below it the registers that
// a loop in place of a call with a callback saves, and two words for the host function that finds map elements.
const (
	MaxStack = 512 + LoopSave
	LoopSave = 48
)

// IsCall reports whether op calls something, so that r1..r5 and the outgoing slots are lost.
func (op Op) IsCall() bool { return op == Call || op == CallHost || op == CallNative }

// HasTarget reports whether Off is an index into Program.Insns.
func (op Op) HasTarget() bool { return op == Jmp || op == Jcc || op == MayGoto || op == IfThrown }

// IsALU reports whether op computes Dst from Dst and B.
func (op Op) IsALU() bool { return op >= Add && op <= Arsh }

// IsAtomic reports whether op is a read-modify-write operation.
func (op Op) IsAtomic() bool { return op >= AtomicAdd && op <= AtomicCmpXchg }

var opNames = [NumOps]string{
	"invalid", "mov", "add", "sub", "mul", "div", "mod", "sdiv", "smod", "or", "and", "xor", "lsh", "rsh", "arsh", "neg",
	"sext", "zext", "bswap", "funcaddr", "load", "store", "atomic_add", "atomic_or", "atomic_and", "atomic_xor",
	"atomic_xchg", "atomic_cmpxchg", "load_acquire", "store_release", "jmp", "j", "may_goto", "yield", "set_thrown",
	"if_thrown", "call",
	"call_host", "call_native", "arg_load", "arg_store", "arg_ext", "array_lookup", "cpu", "held", "tail_call", "exit", "trap",
}

var condNames = [NumConds]string{"eq", "ne", "gt", "ge", "lt", "le", "sgt", "sge", "slt", "sle", "set", "nset"}

// String returns the operation's name.
func (op Op) String() string {
	if op < NumOps {
		return opNames[op]
	}
	return fmt.Sprintf("op%d", uint8(op))
}

// String shows every field that can count; it is for tests and internal errors.
func (in Insn) String() string {
	s := fmt.Sprintf("%s%d r%d", in.Op, in.W*8, in.Dst)
	if in.Op == Jcc && in.Sub < NumConds {
		s = fmt.Sprintf("j%s%d r%d", condNames[in.Sub], in.W*8, in.Dst)
	}
	if in.UseImm() {
		s += fmt.Sprintf(", %d", in.Imm)
	} else {
		s += fmt.Sprintf(", r%d", in.Src)
	}
	return fmt.Sprintf("%s off=%d sub=%d (insn %d)", s, in.Off, in.Sub, in.PC)
}
