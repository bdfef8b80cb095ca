#include "textflag.h"

// Signal handlers that stand in front of Go's. They run on the thread's signal stack by the C convention: R0 is the
// signal, R1 the siginfo, R2 the ucontext. They use R3 to R6 only, touch no Go state but the four words below, and are
// done or jump to Go's handler with its arguments as they came.
//
// Whether a thread was running a program is told by its stack pointer: machine stacks lie in one range, in slots of a
// fixed size, with the context block at a fixed place in its slot. That holds inside native kfuncs too.
//
// Go finds its goroutine in R28, where a program leaves it. But machine code that a program calls may use R28 for its
// own, as any C function may that gives it back. So every signal passes here, and R28 is as Go left it when Go's handler
// runs; the kernel gives the machine code its own back afterwards.

#define UC_R23 368(R2)
#define UC_R28 408(R2)
#define UC_LR 424(R2)
#define UC_SP 432(R2)
#define UC_PC 440(R2)
#define SLOT_MASK $-524288
#define SLOT_BLOCK $458752

// FIND_BLOCK goes to chain if no program was running, else leaves the stack pointer in R3, the context block in R4.
#define FIND_BLOCK \
	MOVD UC_SP, R3            \
	MOVD $·stacksLo(SB), R4   \
	MOVD (R4), R4             \
	CMP  R4, R3               \
	BLO  chain                \
	MOVD $·stacksHi(SB), R4   \
	MOVD (R4), R4             \
	CMP  R4, R3               \
	BHS  chain                \
	AND  SLOT_MASK, R3, R4    \
	ADD  SLOT_BLOCK, R4, R4

// CHAIN goes on in Go's handler.
#define CHAIN \
	MOVD $·goHandlers(SB), R3 \
	MOVW R0, R4               \
	MOVD (R3)(R4<<3), R3      \
	JMP  (R3)

// A fault: note where, and go on in enter, which returns to Go.
TEXT onFault<>(SB), NOSPLIT|NOFRAME, $0-0
	FIND_BLOCK
	MOVD R3, 216(R4)
	MOVD UC_PC, R5
	MOVD R5, 200(R4)
	MOVD 16(R1), R5 // si_addr
	MOVD R5, 208(R4)
	MOVD UC_LR, R5
	MOVD R5, 240(R4)
	MOVD R4, UC_R23
	MOVD 248(R4), R5
	MOVD R5, UC_R28
	MOVD $·stubFault(SB), R5
	MOVD (R5), R5
	MOVD R5, UC_PC
	RET
chain:
	CHAIN

// The Go runtime wants this thread to stop (SIGURG): make the program leave at its next yield point.
TEXT onPreempt<>(SB), NOSPLIT|NOFRAME, $0-0
	FIND_BLOCK
	MOVD $1, R5
	MOVW R5, 40(R4)
	MOVD 248(R4), g
chain:
	CHAIN

// Any other signal.
TEXT onOther<>(SB), NOSPLIT|NOFRAME, $0-0
	FIND_BLOCK
	MOVD 248(R4), g
chain:
	CHAIN

// func handlers() (fault, preempt, other uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-24
	MOVD $onFault<>(SB), R0
	MOVD R0, fault+0(FP)
	MOVD $onPreempt<>(SB), R0
	MOVD R0, preempt+8(FP)
	MOVD $onOther<>(SB), R0
	MOVD R0, other+16(FP)
	RET
