package isa

import (
	"encoding/binary"
	"fmt"
)

// Size in bytes of a slot.
const InsnSize = 8

// Decode splits code into slots. Big-endian objects have the two registers of a slot swapped as well as the bytes of
// the offset and of the immediate. Every 8 bytes are a slot, so the only error is a length that is no multiple of 8.
func Decode(code []byte, order binary.ByteOrder) ([]Insn, error) {
	if len(code)%InsnSize != 0 {
		return nil, fmt.Errorf("code of %d bytes: not a multiple of %d", len(code), InsnSize)
	}
	insns := make([]Insn, len(code)/InsnSize)
	for i := range insns {
		insns[i] = decodeSlot(code[i*InsnSize:], order)
	}
	return insns, nil
}

func decodeSlot(b []byte, order binary.ByteOrder) Insn {
	lo, hi := Reg(b[1]&0x0f), Reg(b[1]>>4)
	if order.Uint16([]byte{0, 1}) == 1 { // big endian
		lo, hi = hi, lo
	}
	return Insn{Op: b[0], Dst: lo, Src: hi, Off: int16(order.Uint16(b[2:])), Imm: int32(order.Uint32(b[4:]))}
}

// Encode is the inverse of Decode. Register numbers above 15 lose their upper bits.
func Encode(insns []Insn, order binary.ByteOrder) []byte {
	code := make([]byte, len(insns)*InsnSize)
	big := order.Uint16([]byte{0, 1}) == 1
	for i, in := range insns {
		b := code[i*InsnSize:]
		lo, hi := in.Dst, in.Src
		if big {
			lo, hi = hi, lo
		}
		b[0], b[1] = in.Op, byte(lo&15|hi<<4)
		order.PutUint16(b[2:], uint16(in.Off))
		order.PutUint32(b[4:], uint32(in.Imm))
	}
	return code
}

// Slots returns how many slots the instruction takes: 2 for a 64-bit immediate load, else 1.
func (in Insn) Slots() int {
	if in.IsLdImm64() {
		return 2
	}
	return 1
}
