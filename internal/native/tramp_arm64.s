//go:build linux

#include "textflag.h"
#include "funcdata.h"

// Preconditions of this file: b is the address of a context block in a stack slot of this package, laid out as
// internal/abi/block.go says; TestBlock holds the offsets together. While generated code runs, R23 is that address.
//
// What generated code and this file expect of each other:
//
//	registers    BPF r0..r5 are R8 R0 R1 R2 R3 R4, r6..r9 R19..R22, r10 R29; arguments 6 to 8 are in R5..R7. R9..R17 and
//	             R30 belong to nobody. R18 (the platform's) and R28 (Go's g) are never touched, R24..R27 not used.
//	entry        RSP = R29 = an address aligned to 16 where 16 bytes are free for a frame record: 0 is in the first word,
//	             the end of the chain of frames, and R30 may be saved in the second. R0 is the context, R30 where to return,
//	             R0 then the result. R18, R23, R28, R29 and RSP are kept and nothing else.
//	host call    CALL of BlockCallHost, or BlockCallMany with more than eight arguments. R8 is the exit code, arguments 1
//	             to 8 are in R0..R7, 9 to 12 at RSP. The result is in R8. R19..R23, R29 and RSP are kept.
//	yield        CALL of BlockYield. R0..R8, R19..R23, R29 and RSP are kept, R9..R17, R30 and the flags are not.
//	native call  CALL of R16 by the C convention; a C function may use R18, and R28 for as long as it runs
//	             (signal_linux_arm64.s).
//
// The assembler uses R27 for what an instruction cannot hold and R26 for closures; both are free here.

#define GOSP 0(R23)
#define GOBP 8(R23)
#define NATSP 16(R23)
#define EXIT 24(R23)
#define RESULT 32(R23)
#define TOP 176(R23)
#define CODE 184(R23)
#define CTX 192(R23)
#define BACK 232(R23)
#define GOG 248(R23)

// func enter(b *block)
//
// Runs the program that b is set up for, on its own stack, until it has returned or must end. Host calls are made from
// the frame of this function: the program calls a stub, the stub goes over to the goroutine's stack and continues here
// behind the call of launch, dispatch is called as any function is, and again goes back. So Go can walk, grow and move
// its stack, and every RET meets its CALL, which the processor predicts.
TEXT ·enter(SB), 0, $8-8
	NO_LOCAL_POINTERS
	MOVD b+0(FP), R23
	CALL launch<>(SB)
	MOVD EXIT, R0     // continued here by launch (0) and by the stubs
	CBZ  R0, done
	CMP  $2, R0
	BEQ  done
	MOVD R23, 8(RSP)
	CALL ·dispatch(SB)
	MOVD b+0(FP), R23
	MOVD EXIT, R0
	CMP  $3, R0
	BNE  done
	JMP  again<>(SB)
done:
	RET

// launch calls the program.
TEXT launch<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD R30, BACK
	MOVD RSP, R9
	MOVD R9, GOSP
	MOVD R29, GOBP
	MOVD g, GOG
	MOVD $3, R9
	MOVD R9, EXIT
	MOVD CODE, R16
	MOVD CTX, R0
	MOVD TOP, R9
	MOVD ZR, (R9)
	MOVD R9, RSP
	MOVD R9, R29
	CALL (R16)
	MOVD R0, RESULT
	MOVD ZR, EXIT
	MOVD GOBP, R29
	MOVD GOSP, R9
	MOVD R9, RSP
	MOVD BACK, R30
	RET

// again goes back to the program behind its call of a stub. It stands for a return of launch into enter's frame, which
// may have moved.
TEXT again<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD RSP, R9
	MOVD R9, GOSP
	MOVD R29, GOBP
	MOVD RESULT, R8
	MOVD NATSP, R9
	LDP  0(R9), (R19, R20)
	LDP  16(R9), (R21, R22)
	LDP  32(R9), (R29, R30)
	ADD  $48, R9
	MOVD R9, RSP
	RET

// The stubs are called by the program, on its stack: R8 is the exit code.

// callMany leaves for a host function with more than eight arguments: the others stand at the stack pointer.
TEXT callMany<>(SB), NOSPLIT|NOFRAME, $0-0
	LDP 0(RSP), (R9, R10)
	STP (R9, R10), 144(R23)
	LDP 16(RSP), (R9, R10)
	STP (R9, R10), 160(R23)
	JMP callHost<>(SB)

// callHost leaves for a host function with at most eight arguments.
TEXT callHost<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $-48(RSP), R9
	MOVD R9, RSP
	STP  (R19, R20), 0(R9)
	STP  (R21, R22), 16(R9)
	STP  (R29, R30), 32(R9)
	MOVD R8, EXIT
	MOVD R9, NATSP
	STP  (R0, R1), 80(R23)
	STP  (R2, R3), 96(R23)
	STP  (R4, R5), 112(R23)
	STP  (R6, R7), 128(R23)
	JMP  toGo<>(SB)

// toGo continues in enter.
TEXT toGo<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD GOSP, R9
	MOVD R9, RSP
	MOVD BACK, R16
	JMP  fp // vet takes a write to R29 in straight code for a clobbered frame pointer; Go's is restored here
fp:
	MOVD GOBP, R29
	JMP  (R16)

// yield leaves and keeps every register of the program. The return address lies lowest: whoever looks for it there must
// find it before what the program's registers hold.
TEXT yield<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $-80(RSP), R9
	MOVD R9, RSP
	STP  (R30, R0), 0(RSP)
	STP  (R1, R2), 16(RSP)
	STP  (R3, R4), 32(RSP)
	STP  (R5, R6), 48(RSP)
	STP  (R7, R8), 64(RSP)
	MOVD $1, R8
	CALL callHost<>(SB)
	LDP  0(RSP), (R30, R0)
	LDP  16(RSP), (R1, R2)
	LDP  32(RSP), (R3, R4)
	LDP  48(RSP), (R5, R6)
	LDP  64(RSP), (R7, R8)
	MOVD $80(RSP), R9
	MOVD R9, RSP
	RET

// faulted is where the signal handler continues, with R23 and R28 set, when the program has faulted: it is abandoned.
TEXT faulted<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $2, R9
	MOVD R9, EXIT
	JMP  toGo<>(SB)

// func stubs() (host, many, yieldAt, faultAt uintptr)
TEXT ·stubs(SB), NOSPLIT, $0-32
	MOVD $callHost<>(SB), R0
	MOVD R0, host+0(FP)
	MOVD $callMany<>(SB), R0
	MOVD R0, many+8(FP)
	MOVD $yield<>(SB), R0
	MOVD R0, yieldAt+16(FP)
	MOVD $faulted<>(SB), R0
	MOVD R0, faultAt+24(FP)
	RET
