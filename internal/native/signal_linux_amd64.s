#include "textflag.h"

// Signal handlers that stand in front of Go's. They run on the thread's signal stack by the C convention: DI is the
// signal, SI the siginfo, DX the ucontext. They use caller-saved registers only, touch no Go state but the four words
// below, and are done or jump to Go's handler with its arguments as they came.
//
// Whether a thread was running a program is told by its stack pointer: machine stacks lie in one range, in slots of a
// fixed size, with the context block at a fixed place in its slot. That holds inside native kfuncs too.

#define UC_R12 0x48(DX)
#define UC_SP 0xa0(DX)
#define UC_IP 0xa8(DX)
#define SLOT_MASK $-524288
#define SLOT_BLOCK 458752

// A fault: note where, and go on in enter, which returns to Go.
TEXT onFault<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ UC_SP, CX
	CMPQ CX, ·stacksLo(SB)
	JB   chain
	CMPQ CX, ·stacksHi(SB)
	JAE  chain
	MOVQ CX, R8
	ANDQ SLOT_MASK, CX
	LEAQ SLOT_BLOCK(CX), CX
	MOVQ UC_IP, AX
	MOVQ AX, 200(CX)
	MOVQ 16(SI), AX // si_addr
	MOVQ AX, 208(CX)
	MOVQ R8, 216(CX)
	MOVQ CX, UC_R12
	MOVQ ·stubFault(SB), AX
	MOVQ AX, UC_IP
	RET
chain:
	LEAQ ·goHandlers(SB), AX
	MOVLQSX DI, CX
	MOVQ (AX)(CX*8), AX
	JMP  AX

// The Go runtime wants this thread to stop (SIGURG): make the program leave at its next yield point.
TEXT onPreempt<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ UC_SP, CX
	CMPQ CX, ·stacksLo(SB)
	JB   chain
	CMPQ CX, ·stacksHi(SB)
	JAE  chain
	ANDQ SLOT_MASK, CX
	MOVB $1, (SLOT_BLOCK+40)(CX)
chain:
	LEAQ ·goHandlers(SB), AX
	MOVLQSX DI, CX
	MOVQ (AX)(CX*8), AX
	JMP  AX

// func handlers() (fault, preempt, other uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-24
	LEAQ onFault<>(SB), AX
	MOVQ AX, fault+0(FP)
	LEAQ onPreempt<>(SB), AX
	MOVQ AX, preempt+8(FP)
	MOVQ $0, other+16(FP)
	RET
