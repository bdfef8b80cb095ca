package abi

// A context block is the memory that the machine register BlockReg points to while a program runs. Generated code uses
// the fields below 128, so that their displacement is one byte; the trampolines use all of them. internal/native has
// the Go structure and tests that every offset agrees.
const (
	BlockGoSP     = 0   // Go's stack pointer, to return to
	BlockGoBP     = 8   // Go's frame pointer
	BlockSP       = 16  // the program's stack pointer while it has left to Go
	BlockExit     = 24  // why it left: an Exit code, or the rt.Handle of a host function
	BlockRet      = 32  // r0: of the program when it returns, of the host function when it resumes
	BlockPoll     = 40  // 32 bits; not 0: leave to Go at the next yield point
	BlockCPU      = 44  // 32 bits: slot number of the execution context
	BlockTailCnt  = 48  // 32 bits: tail calls made by this run
	BlockThrown   = 52  // 32 bits: not 0 from where the run throws to where its main function takes it
	BlockCallHost = 56  // address of the stub that calls a host function whose arguments are all in registers
	BlockCallMany = 64  // the same for up to 12 arguments
	BlockYield    = 72  // address of the stub that leaves to Go and keeps every register
	BlockArgs     = 80  // 12 words: arguments of the host function
	BlockTop      = 176 // initial stack pointer
	BlockCode     = 184 // address to enter
	BlockCtx      = 192 // r1 at entry
	BlockFaultPC  = 200
	BlockFaultAdr = 208
	BlockFaultSP  = 216
	BlockID       = 224 // 32 bits: number of the block
	BlockBack     = 232 // where the stubs continue
	BlockFaultLR  = 240 // the link register, where there is one
	BlockGoG      = 248 // the goroutine, where Go keeps it in a register
	BlockHeld     = 256 // what the run holds (rt.HeldList)
	BlockSize     = BlockHeld + HeldSize
)

// The list of what a run holds: two words, in the first of which stands how many bytes of entries are in use, then the entries: an address
// and what is to be done with it. A proven program holds what it has pointers to, in eight frames of stack and in its registers; so the
// list has room for all.
const (
	HeldEntry = 16
	HeldMax   = 1000
	HeldBytes = HeldMax * HeldEntry
	HeldSize  = 16 + HeldBytes
)

// Exit codes: why machine code left to Go. Codes from ExitFirstHandle on are handles of host functions.
const (
	ExitReturn      = 0
	ExitYield       = 1
	ExitFault       = 2
	ExitRunning     = 3 // it has not left, or has been served and goes on
	ExitStop        = 4 // it has been served and must end
	ExitFirstHandle = 16
)

// MaxTailCalls is the number of tail calls one run can make (MAX_TAIL_CALL_CNT).
const MaxTailCalls = 33
