package target

import (
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// disassembleAMD64 returns the text and length of the instruction at the start of b, which lies at pc.
func disassembleAMD64(b []byte, pc uint64) (string, int) {
	if len(b) >= 5 && b[0] == 0xc4 && b[3] == 0xf7 && b[4]>>6 == 3 {
		return shiftBMI2(b), 5
	}
	in, err := x86asm.Decode(b, 64)
	if err != nil {
		return fmt.Sprintf(".byte %#02x", b[0]), 1
	}
	return x86asm.IntelSyntax(in, pc, nil), in.Len
}

// shiftBMI2 writes shlx, sarx and shrx between registers, which x86asm does not know (three-byte VEX prefix).
func shiftBMI2(b []byte) string {
	names := [2][16]string{
		{"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"},
		{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"},
	}
	w := b[2] >> 7
	reg := b[4]>>3&7 | (^b[1]>>7&1)<<3
	rm := b[4]&7 | (^b[1]>>5&1)<<3
	v := ^b[2] >> 3 & 15
	op := [4]string{"bextr", "shlx", "sarx", "shrx"}[b[2]&3]
	return fmt.Sprintf("%s %s, %s, %s", op, names[w][reg], names[w][rm], names[w][v])
}
