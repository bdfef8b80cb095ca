#include "textflag.h"

// func addr() uintptr
TEXT ·addr(SB), NOSPLIT, $0-8
	MOVD $weigh12<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// AAPCS64: arguments in R0 to R7, the ninth at 0(RSP) and on; result in R0. Uses R9 to R11 besides, which belong to the callee.
TEXT weigh12<>(SB), NOSPLIT|NOFRAME, $0-0
	ADD  R1<<1, R0, R0
	ADD  R2<<1, R2, R9
	ADD  R9, R0, R0
	ADD  R3<<2, R0, R0
	ADD  R4<<2, R4, R9
	ADD  R9, R0, R0
	MOVD $6, R11
	MADD R11, R0, R5, R0
	MOVD $7, R11
	MADD R11, R0, R6, R0
	ADD  R7<<3, R0, R0
	LDP  0(RSP), (R9, R10)
	ADD  R9<<3, R9, R9
	ADD  R9, R0, R0
	MOVD $10, R11
	MADD R11, R0, R10, R0
	LDP  16(RSP), (R9, R10)
	MOVD $11, R11
	MADD R11, R0, R9, R0
	MOVD $12, R11
	MADD R11, R0, R10, R0
	RET
