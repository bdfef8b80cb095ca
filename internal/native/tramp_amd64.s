//go:build linux

#include "textflag.h"

// Preconditions of this file: R12 (in enter and resume: the argument) is the address of a context block in a stack slot
// of this package, laid out as internal/abi/block.go says; TestBlock holds the offsets together. Generated code keeps
// R12 and nothing else of Go's.

#define GOSP 0(R12)
#define GOBP 8(R12)
#define NATSP 16(R12)
#define EXIT 24(R12)
#define RESULT 32(R12)
#define TOP 176(R12)
#define CODE 184(R12)
#define CTX 192(R12)
#define SEQ 224(R12)

// func enter(b *block)
// Enters generated code on its own stack. Returns when the program returns or leaves to Go.
TEXT ·enter(SB), NOSPLIT|NOFRAME, $0-8
	MOVQ b+0(FP), R12
	MOVQ BP, GOBP
	MOVQ SP, GOSP
	INCQ SEQ
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

// func resume(b *block)
// Continues behind the host call or yield point that left, with RESULT as r0 of a host call.
TEXT ·resume(SB), NOSPLIT|NOFRAME, $0-8
	MOVQ b+0(FP), R12
	MOVQ BP, GOBP
	MOVQ SP, GOSP
	MOVQ RESULT, AX
	MOVQ NATSP, SP
	MOVQ 0(SP), R15
	MOVQ 8(SP), R14
	MOVQ 16(SP), R13
	MOVQ 24(SP), BX
	MOVQ 32(SP), BP
	MOVQ 40(SP), CX
	LEAQ 48(SP), SP
	JMP  CX // not RET: the return-stack predictor would be wrong

// The stubs below are called by generated code, on its stack: AX is the exit code.

#define SAVE \
	LEAQ -40(SP), SP; \
	MOVQ R15, 0(SP); \
	MOVQ R14, 8(SP); \
	MOVQ R13, 16(SP); \
	MOVQ BX, 24(SP); \
	MOVQ BP, 32(SP); \
	MOVQ AX, EXIT; \
	MOVQ SP, NATSP

#define LEAVE \
	MOVQ GOBP, BP; \
	MOVQ GOSP, SP; \
	MOVQ 0(SP), CX; \
	LEAQ 8(SP), SP; \
	JMP  CX

#define ARGS6 \
	MOVQ DI, 80(R12); \
	MOVQ SI, 88(R12); \
	MOVQ DX, 96(R12); \
	MOVQ CX, 104(R12); \
	MOVQ R8, 112(R12); \
	MOVQ R9, 120(R12)

// callHost leaves for a host function with at most six arguments.
TEXT callHost<>(SB), NOSPLIT|NOFRAME, $0-0
	SAVE
	ARGS6
	LEAVE

// callMany leaves for a host function with more: arguments 7 to 12 stand above the return address.
TEXT callMany<>(SB), NOSPLIT|NOFRAME, $0-0
	SAVE
	ARGS6
	MOVQ 48(SP), AX
	MOVQ 56(SP), CX
	MOVQ 64(SP), DX
	MOVQ 72(SP), SI
	MOVQ 80(SP), DI
	MOVQ 88(SP), R8
	MOVQ AX, 128(R12)
	MOVQ CX, 136(R12)
	MOVQ DX, 144(R12)
	MOVQ SI, 152(R12)
	MOVQ DI, 160(R12)
	MOVQ R8, 168(R12)
	LEAVE

// leave saves what callHost does and leaves; the caller has done the rest.
TEXT leave<>(SB), NOSPLIT|NOFRAME, $0-0
	SAVE
	LEAVE

// yield leaves with every register of the program kept.
TEXT yield<>(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ -56(SP), SP
	MOVQ AX, 0(SP)
	MOVQ DI, 8(SP)
	MOVQ SI, 16(SP)
	MOVQ DX, 24(SP)
	MOVQ CX, 32(SP)
	MOVQ R8, 40(SP)
	MOVQ R9, 48(SP)
	MOVQ $1, AX
	CALL leave<>(SB)
	MOVQ 0(SP), AX
	MOVQ 8(SP), DI
	MOVQ 16(SP), SI
	MOVQ 24(SP), DX
	MOVQ 32(SP), CX
	MOVQ 40(SP), R8
	MOVQ 48(SP), R9
	LEAQ 56(SP), SP
	RET

// func stubs() (host, many, yieldAt uintptr)
TEXT ·stubs(SB), NOSPLIT, $0-24
	LEAQ callHost<>(SB), AX
	MOVQ AX, host+0(FP)
	LEAQ callMany<>(SB), AX
	MOVQ AX, many+8(FP)
	LEAQ yield<>(SB), AX
	MOVQ AX, yieldAt+16(FP)
	RET

// func cpuid(leaf, sub uint32) (bx, cx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-16
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL BX, bx+8(FP)
	MOVL CX, cx+12(FP)
	RET
