package target

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/arch/arm64/arm64asm"
)

// disassembleARM64 returns the text and length of the instruction at the start of b, which lies at pc. Branches show the address
// they go to.
func disassembleARM64(b []byte, pc uint64) (string, int) {
	if len(b) < 4 {
		return fmt.Sprintf(".byte %#02x", b[0]), 1
	}
	word := binary.LittleEndian.Uint32(b)
	in, err := arm64asm.Decode(b)
	if err != nil {
		return unknownARM64(word), 4
	}
	text := arm64asm.GNUSyntax(in)
	for _, arg := range in.Args {
		if rel, ok := arg.(arm64asm.PCRel); ok {
			k := strings.LastIndexByte(text, '.')
			return fmt.Sprintf("%s%#x", text[:k], uint64(int64(pc)+int64(rel))), 4
		}
	}
	return text, 4
}

// unknownARM64 writes what arm64asm does not know: the atomic operations of LSE, in the acquire-release form that skep uses, and
// the instruction that is undefined for good.
func unknownARM64(word uint32) string {
	if word>>16 == 0 {
		return fmt.Sprintf("udf #%d", word)
	}
	name := func(r uint32, wide bool) string {
		switch {
		case r == 31 && wide:
			return "xzr"
		case r == 31:
			return "wzr"
		case wide:
			return fmt.Sprintf("x%d", r)
		}
		return fmt.Sprintf("w%d", r)
	}
	wide := word>>30 == 3
	s, n, t := name(word>>16&31, wide), word>>5&31, name(word&31, wide)
	base := "sp"
	if n != 31 {
		base = name(n, true)
	}
	ops := map[uint32]string{0x38e00000: "ldaddal", 0x38e01000: "ldclral", 0x38e02000: "ldeoral", 0x38e03000: "ldsetal",
		0x38e08000: "swpal", 0x08e0fc00: "casal"}
	if op, ok := ops[word&0x3fe0fc00]; ok && word>>31 == 1 {
		return fmt.Sprintf("%s %s, %s, [%s]", op, s, t, base)
	}
	return fmt.Sprintf(".inst %#08x", word)
}
