//go:build linux

package skep_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestFlowDissectorAsKernel compares keys: those that a program finds, those that it sets, and what is made of offsets of
// headers outside the packet.
func TestFlowDissectorAsKernel(t *testing.T) {
	needKernel(t)
	keys := asm.LoadMem(asm.R2, asm.R1, 144, asm.DWord)
	set := func(off int16, v int32, size asm.Size) asm.Instructions {
		return asm.Instructions{keys, asm.StoreImm(asm.R2, off, int64(v), size), asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}
	programs := map[string]asm.Instructions{
		"nothing": {asm.Mov.Imm(asm.R0, 2), asm.Return()},
		"first byte": {
			asm.LoadMem(asm.R2, asm.R1, 76, asm.Word), asm.LoadMem(asm.R3, asm.R1, 80, asm.Word), asm.Mov.Imm(asm.R0, 0),
			asm.Mov.Reg(asm.R4, asm.R3), asm.Sub.Reg(asm.R4, asm.R2), asm.Mov.Reg(asm.R5, asm.R2), asm.Add.Imm(asm.R5, 14),
			asm.JGT.Reg(asm.R5, asm.R3, "out"), asm.LoadMem(asm.R0, asm.R2, 12, asm.Half), asm.LSh.Imm(asm.R0, 8), asm.Add.Reg(asm.R0, asm.R4),
			asm.Return().WithSymbol("out"),
		},
	}
	for off := int16(0); off < 56; off += 4 {
		programs[fmt.Sprintf("key %d", off)] = asm.Instructions{keys, asm.LoadMem(asm.R0, asm.R2, off, asm.Word), asm.Return()}
		programs[fmt.Sprintf("set %d", off)] = set(off, 0x01020304, asm.Word)
	}
	for _, v := range []int32{0, 13, 14, 15, 33, 34, 59, 60, 61, 1000, 0x7fff} {
		programs[fmt.Sprintf("network header at %d", v)] = set(0, v, asm.Half)
		programs[fmt.Sprintf("transport header at %d", v)] = set(2, v, asm.Half)
	}
	flags, other := make([]byte, 56), make([]byte, 56)
	flags[48], other[16] = 5, 1
	for name, insns := range programs {
		s := newSubject(t, ebpf.FlowDissector, insns)
		for frame, data := range testFrames() {
			s.run(name+", "+frame, data, nil, 0)
		}
		s.run(name+", flags", testFrames()["ipv4"], flags, 56)
		s.run(name+", a key given", testFrames()["ipv4"], other, 56)
		s.run(name+", no context", testFrames()["ipv4"], nil, 56)
	}
}

// TestSocketLookupAsKernel reads every word of contexts of both families, and gives contexts with one byte set.
func TestSocketLookupAsKernel(t *testing.T) {
	needKernel(t)
	rng := rand.New(rand.NewPCG(5, 6))
	context := func(family byte) []byte {
		b := make([]byte, 72)
		for i := 12; i < 62; i++ {
			b[i] = byte(rng.Uint32())
		}
		b[8] = family
		return b
	}
	for off := int16(8); off < 68; off += 4 {
		for bit := range int32(32) {
			// Results are 0 or 1: a bit at a time.
			s := newSubject(t, ebpf.SkLookup, asm.Instructions{
				asm.LoadMem(asm.R0, asm.R1, off, asm.Word), asm.RSh.Imm(asm.R0, bit), asm.And.Imm(asm.R0, 1), asm.Return(),
			})
			for _, family := range []byte{2, 10} {
				s.run(fmt.Sprintf("family %d, bit %d at %d", family, bit, off), nil, context(family), 72)
			}
		}
	}
	s := newSubject(t, ebpf.SkLookup, asm.Instructions{asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), asm.Mov.Imm(asm.R0, 1), asm.Return()})
	s.run("no context", nil, nil, 0)
	s.run("a packet", make([]byte, 64), context(2), 72)
	for _, n := range []int{8, 64, 68, 71, 72, 73} {
		s.run(fmt.Sprintf("%d bytes of context", n), nil, append(context(2), 0)[:n], 72)
		s.run(fmt.Sprintf("%d bytes of context out", n), nil, context(2), n)
	}
	for off := range 72 {
		b := make([]byte, 72)
		b[8] = 2
		b[off] |= 9
		s.run(fmt.Sprintf("byte %d set", off), nil, bytes.Clone(b), 72)
	}
}
