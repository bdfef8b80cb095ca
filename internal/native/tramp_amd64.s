//go:build linux

#include "textflag.h"
#include "funcdata.h"

// Preconditions of this file: b is the address of a context block in a stack slot of this package, laid out as
// internal/abi/block.go says; TestBlock holds the offsets together. While generated code runs, R12 is that address.

#define GOSP 0(R12)
#define GOBP 8(R12)
#define NATSP 16(R12)
#define EXIT 24(R12)
#define RESULT 32(R12)
#define TOP 176(R12)
#define CODE 184(R12)
#define CTX 192(R12)
#define BACK 232(R12)

// func enter(b *block)
//
// Runs the program that b is set up for, on its own stack, until it has returned or must end. Host calls are made from
// the frame of this function: the program calls a stub, the stub goes over to the goroutine's stack and continues here
// behind the call of launch, dispatch is called as any function is, and again goes back. So Go can walk, grow and move
// its stack, and every RET meets its CALL, which the processor predicts: leaving by RET, or not at all by way of this
// frame, costs several times as much.
TEXT ·enter(SB), 0, $8-8
	NO_LOCAL_POINTERS
	MOVQ b+0(FP), R12
	CALL launch<>(SB)
	CMPQ EXIT, $0     // continued here by launch (0) and by the stubs
	JEQ  done
	CMPQ EXIT, $2
	JEQ  done
	MOVQ R12, 0(SP)
	CALL ·dispatch(SB)
	MOVQ b+0(FP), R12
	CMPQ EXIT, $3
	JNE  done
	JMP  again<>(SB)
done:
	RET

// launch calls the program.
TEXT launch<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ 0(SP), AX
	MOVQ AX, BACK
	MOVQ SP, GOSP
	MOVQ BP, GOBP
	MOVQ $3, EXIT
	MOVQ CODE, AX
	MOVQ CTX, DI
	MOVQ TOP, SP
	LEAQ -8(SP), BP // where the return address will be: the entry function's frame pointer
	CALL AX
	MOVQ AX, RESULT
	MOVQ $0, EXIT
	MOVQ GOBP, BP
	MOVQ GOSP, SP
	RET

// again goes back to the program behind its call of a stub. It stands for a return of launch into enter's frame, which
// may have moved.
TEXT again<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ BACK, AX
	LEAQ -8(SP), SP
	MOVQ AX, 0(SP)
	MOVQ SP, GOSP
	MOVQ BP, GOBP
	MOVQ RESULT, AX
	MOVQ NATSP, SP
	MOVQ 0(SP), R15
	MOVQ 8(SP), R14
	MOVQ 16(SP), R13
	MOVQ 24(SP), BX
	MOVQ 32(SP), BP
	LEAQ 40(SP), SP
	RET

// The stubs are called by the program, on its stack: AX is the exit code.

// callMany leaves for a host function with more than six arguments: the others stand above the return address.
TEXT callMany<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ 8(SP), R10
	MOVQ R10, 128(R12)
	MOVQ 16(SP), R10
	MOVQ R10, 136(R12)
	MOVQ 24(SP), R10
	MOVQ R10, 144(R12)
	MOVQ 32(SP), R10
	MOVQ R10, 152(R12)
	MOVQ 40(SP), R10
	MOVQ R10, 160(R12)
	MOVQ 48(SP), R10
	MOVQ R10, 168(R12)
	JMP  callHost<>(SB)

// callHost leaves for a host function with at most six arguments.
TEXT callHost<>(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ -40(SP), SP
	MOVQ R15, 0(SP)
	MOVQ R14, 8(SP)
	MOVQ R13, 16(SP)
	MOVQ BX, 24(SP)
	MOVQ BP, 32(SP)
	MOVQ AX, EXIT
	MOVQ SP, NATSP
	MOVQ DI, 80(R12)
	MOVQ SI, 88(R12)
	MOVQ DX, 96(R12)
	MOVQ CX, 104(R12)
	MOVQ R8, 112(R12)
	MOVQ R9, 120(R12)
	JMP  toGo<>(SB)

// toGo continues in enter.
TEXT toGo<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ GOSP, SP
	MOVQ 0(SP), CX
	LEAQ 8(SP), SP
	JMP  bp // vet takes a write to BP in straight code for a clobbered frame pointer; Go's is restored here
bp:
	MOVQ GOBP, BP
	JMP  CX

// yield leaves and keeps every register of the program. The return address lies lowest once more: whoever looks for it
// there must find it before what the program's registers hold.
TEXT yield<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ 0(SP), R10
	LEAQ -64(SP), SP
	MOVQ R10, 0(SP)
	MOVQ AX, 8(SP)
	MOVQ DI, 16(SP)
	MOVQ SI, 24(SP)
	MOVQ DX, 32(SP)
	MOVQ CX, 40(SP)
	MOVQ R8, 48(SP)
	MOVQ R9, 56(SP)
	MOVQ $1, AX
	CALL callHost<>(SB)
	MOVQ 8(SP), AX
	MOVQ 16(SP), DI
	MOVQ 24(SP), SI
	MOVQ 32(SP), DX
	MOVQ 40(SP), CX
	MOVQ 48(SP), R8
	MOVQ 56(SP), R9
	LEAQ 64(SP), SP
	RET

// faulted is where the signal handler continues, with R12 set, when the program has faulted: it is abandoned.
TEXT faulted<>(SB), NOSPLIT|NOFRAME, $0-0
	CLD
	MOVQ $2, EXIT
	JMP  toGo<>(SB)

// func stubs() (host, many, yieldAt, faultAt uintptr)
TEXT ·stubs(SB), NOSPLIT, $0-32
	LEAQ callHost<>(SB), AX
	MOVQ AX, host+0(FP)
	LEAQ callMany<>(SB), AX
	MOVQ AX, many+8(FP)
	LEAQ yield<>(SB), AX
	MOVQ AX, yieldAt+16(FP)
	LEAQ faulted<>(SB), AX
	MOVQ AX, faultAt+24(FP)
	RET

// func cpuid(leaf, sub uint32) (bx, cx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-16
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL BX, bx+8(FP)
	MOVL CX, cx+12(FP)
	RET
