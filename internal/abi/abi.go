// Package abi says where the twelve arguments of a BPF function or kfunc live in machine registers and memory, per
// architecture, and which fields of a context block generated code, assembly and Go share. It is a table and holds no
// code paths; it knows no instructions.
//
// The convention is each platform's C convention (System V psABI for x86-64, AAPCS64, riscv64 lp64); see
// stack_arguments.md section 5.
package abi

// MaxArgs is the number of arguments a function or kfunc can take (MAX_BPF_FUNC_ARGS), RegArgs of them in BPF
// registers r1..r5 and the others in slots.
const (
	MaxArgs = 12
	RegArgs = 5
	MaxSlot = MaxArgs - RegArgs
)

// Loc is where one argument lives.
type Loc struct {
	// Reg is the machine register's number in the architecture's encoding, or -1 if the argument is in memory.
	Reg int
	// Name is the register's name, "" in memory.
	Name string
	// Caller is the distance in bytes from the stack pointer at the call instruction; Callee that from the frame
	// pointer of a callee with a standard frame (saved frame pointer and return address below it). Both are -1 for
	// a register.
	Caller, Callee int
}

// InMemory reports whether the argument is in memory.
func (l Loc) InMemory() bool { return l.Reg < 0 }

// Arch is the convention of one architecture.
type Arch struct {
	Name string
	Args [MaxArgs]Loc // Args[n-1] is argument n
	// MemArgs is the number of arguments 6..12 that live in memory, SlotRegs that in registers.
	MemArgs, SlotRegs int
	// Result is the register that the result is in.
	Result Loc
	// SP and FP are the names of the stack pointer and of the frame pointer that Callee counts from.
	SP, FP string
	// StackAlign is the alignment in bytes of the stack pointer at a call.
	StackAlign int
}

// AMD64 is the System V psABI: arguments 1..6 in rdi rsi rdx rcx r8 r9.
var AMD64 = table("amd64", "rsp", "rbp", reg(0, "rax"), []Loc{reg(7, "rdi"), reg(6, "rsi"), reg(2, "rdx"), reg(1, "rcx"), reg(8, "r8"), reg(9, "r9")})

// ARM64 is AAPCS64: arguments 1..8 in x0..x7. Its frame pointer fp is x29.
var ARM64 = table("arm64", "sp", "fp", reg(0, "x0"), []Loc{reg(0, "x0"), reg(1, "x1"), reg(2, "x2"), reg(3, "x3"), reg(4, "x4"), reg(5, "x5"), reg(6, "x6"), reg(7, "x7")})

// RISCV64 is lp64: arguments 1..8 in a0..a7 (x10..x17). The frame pointer s0 there is the stack pointer at entry, so a
// callee finds argument 9 at s0+0.
var RISCV64 = riscv()

// All lists the conventions.
var All = []*Arch{&AMD64, &ARM64, &RISCV64}

// InSlot returns where BPF code finds argument n (6..12) as an offset from r11: the callee's load; the caller's store is at the
// same distance below.
func InSlot(n int) int { return 8 * (n - RegArgs) }

func reg(n int, name string) Loc { return Loc{Reg: n, Name: name, Caller: -1, Callee: -1} }

// calleeBias is the distance from the frame pointer to the stack pointer at the call: saved frame pointer and return
// address.
const calleeBias = 16

func table(name, sp, fp string, result Loc, regs []Loc) Arch {
	a := Arch{Name: name, SP: sp, FP: fp, Result: result, StackAlign: 16, MemArgs: MaxArgs - len(regs), SlotRegs: len(regs) - RegArgs}
	copy(a.Args[:], regs)
	for i := len(regs); i < MaxArgs; i++ {
		off := 8 * (i - len(regs))
		a.Args[i] = Loc{Reg: -1, Caller: off, Callee: off + calleeBias}
	}
	return a
}

func riscv() Arch {
	a := table("riscv64", "sp", "s0", reg(10, "a0"), []Loc{reg(10, "a0"), reg(11, "a1"), reg(12, "a2"), reg(13, "a3"), reg(14, "a4"), reg(15, "a5"), reg(16, "a6"), reg(17, "a7")})
	for i := range a.Args {
		if a.Args[i].InMemory() {
			a.Args[i].Callee = a.Args[i].Caller
		}
	}
	return a
}

// Outgoing returns the bytes that a frame reserves at its bottom for calls that need slots stack slots (0..7): the
// arguments in memory, not rounded.
func (a *Arch) Outgoing(slots int) int { return 8 * max(slots-a.SlotRegs, 0) }
