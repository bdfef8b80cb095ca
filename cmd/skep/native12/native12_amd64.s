#include "textflag.h"

// func addr() uintptr
TEXT ·addr(SB), NOSPLIT, $0-8
	LEAQ weigh12<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// System V: arguments in DI SI DX CX R8 R9, the seventh at 8(SP) and on; result in AX. Uses AX and R11 only, which belong to
// the callee.
TEXT weigh12<>(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ  (DI)(SI*2), AX
	LEAQ  (DX)(DX*2), R11
	ADDQ  R11, AX
	LEAQ  (AX)(CX*4), AX
	LEAQ  (R8)(R8*4), R11
	ADDQ  R11, AX
	IMUL3Q $6, R9, R11
	ADDQ  R11, AX
	MOVQ  8(SP), R11
	IMUL3Q $7, R11, R11
	ADDQ  R11, AX
	MOVQ  16(SP), R11
	LEAQ  (AX)(R11*8), AX
	MOVQ  24(SP), R11
	LEAQ  (R11)(R11*8), R11
	ADDQ  R11, AX
	MOVQ  32(SP), R11
	IMUL3Q $10, R11, R11
	ADDQ  R11, AX
	MOVQ  40(SP), R11
	IMUL3Q $11, R11, R11
	ADDQ  R11, AX
	MOVQ  48(SP), R11
	IMUL3Q $12, R11, R11
	ADDQ  R11, AX
	RET
