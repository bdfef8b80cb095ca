#include "textflag.h"

// func cleanText(addr, size uintptr)
//
// CTR_EL0 has the smallest line of the data caches in bits 19:16 and that of the instruction caches in bits 3:0, as
// powers of two of words. [addr, addr+size) is readable; addr is aligned to more than a line.
TEXT ·cleanText(SB), NOSPLIT, $0-16
	MOVD addr+0(FP), R0
	MOVD size+8(FP), R1
	ADD  R0, R1, R1
	MRS  CTR_EL0, R2
	MOVD $4, R4
	UBFX $16, R2, $4, R3
	LSL  R3, R4, R3
	MOVD R0, R5
data:
	DC   CVAU, R5
	ADD  R3, R5, R5
	CMP  R1, R5
	BLO  data
	DSB  $11 // ish: the data is there for all processors
	AND  $15, R2, R3
	LSL  R3, R4, R3
	MOVD R0, R5
code:
	WORD $0xd50b7525 // ic ivau, x5
	ADD  R3, R5, R5
	CMP  R1, R5
	BLO  code
	DSB  $11
	ISB  $15
	RET
