//go:build linux

package skep_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
)

// put stores text on the stack at off.
func put(off int16, text string) asm.Instructions {
	b := append([]byte(text), make([]byte, 8)...)
	var insns asm.Instructions
	for i := 0; i < (len(text)+7)/8*8; i += 8 {
		insns = append(insns, asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint64(b[i:])), asm.DWord), asm.StoreMem(asm.R10, off+int16(i), asm.R3, asm.DWord))
	}
	return insns
}

// TestStrtolAsKernel parses numbers of all kinds; result and consumed bytes are compared.
func TestStrtolAsKernel(t *testing.T) {
	needKernel(t)
	for _, text := range []string{
		"0", "1", "42", "-1", "- 1", "  17", "\t-8x", "0x1f", "0X1F", "0x", "0xg", "017", "08", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "", "abc", "ff", "+5", "1 2", "-", " ", "--1",
		"00000000000000000000000000000000000000000000000000000000000000000000017", "0b1",
	} {
		for _, flags := range []int32{0, 8, 10, 16, 2, 36, 32} {
			for _, fn := range []asm.BuiltinFunc{asm.FnStrtol, asm.FnStrtoul} {
				n := len(text) + 1
				insns := put(-96, text+"\x00")
				insns = append(insns, asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -96), asm.Mov.Imm(asm.R2, int32(n)), asm.Mov.Imm(asm.R3, flags),
					asm.Mov.Reg(asm.R4, asm.R10), asm.Add.Imm(asm.R4, -8), fn.Call(),
					asm.LoadMem(asm.R1, asm.R10, -8, asm.DWord), asm.Mov.Imm(asm.R2, 1000003), asm.Mul.Reg(asm.R1, asm.R2), asm.Add.Reg(asm.R0, asm.R1), asm.Mov.Reg(asm.R1, asm.R0), asm.RSh.Imm(asm.R1, 32), asm.Xor.Reg(asm.R0, asm.R1), asm.Return())
				newSubject(t, ebpf.SocketFilter, insns).run(fmt.Sprintf("%s(%q, %d)", fn, text, flags), make([]byte, 64), nil, 0)
			}
		}
	}
}

// TestSnprintfAsKernel formats into a map value on both sides and compares text and length.
func TestSnprintfAsKernel(t *testing.T) {
	needKernel(t)
	for _, c := range []struct {
		format string
		args   []uint64
		size   int32
	}{
		{"plain", nil, 32}, {"100%%", nil, 32}, {"%d %u %x %X %i", []uint64{^uint64(0), ^uint64(0), 255, 255, 7}, 64},
		{"%ld|%lld|%lx", []uint64{^uint64(0), ^uint64(1), 1 << 40}, 64}, {"[%5d|%-5d|%05d|%+d|% d|%-05d]", []uint64{42, 42, ^uint64(41), 42, 42, 42}, 64},
		{"%c%3c%-3c|", []uint64{'a', 'b', 'c'}, 32}, {"%px %px", []uint64{0xabc, 0}, 64}, {"%p", []uint64{0}, 64}, {"%20px|%-20px|", []uint64{1, 2}, 64},
		{"truncated %d", []uint64{123456}, 12}, {"nothing", nil, 0}, {"%x", []uint64{1}, 1}, {"%s", []uint64{1}, 8}, {"%pI4", []uint64{1}, 20},
		{"%pI6|%pi6", []uint64{1, 1}, 64}, {"%10d%-10u|", []uint64{1, 2}, 64}, {"%+x% u%+lu", []uint64{1, 2, 3}, 64}, {"a\tb\n", nil, 16},
	} {
		format, err := ebpf.NewMap(formatSpec(c.format))
		if err != nil {
			t.Fatal(err)
		}
		if err := format.Freeze(); err != nil {
			t.Fatal(err)
		}
		out, err := ebpf.NewMap(outSpec)
		if err != nil {
			t.Fatal(err)
		}
		kp, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: snprintfProgram(format, out, c.args, c.size)})
		if err != nil {
			t.Fatalf("%q: %+v", c.format, err)
		}
		kret, _, err := kp.Test(make([]byte, 64))
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if err := out.Lookup(uint32(0), &b); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %q", int32(kret), bytes.TrimRight(b, "\x00"))
		kp.Close()
		format.Close()
		out.Close()
		for _, e := range engines() {
			spec := formatSpec(c.format)
			spec.Name = ".rodata.format" // frozen
			f, err := skep.NewMap(spec)
			if err != nil {
				t.Fatal(err)
			}
			o, err := skep.NewMap(outSpec)
			if err != nil {
				t.Fatal(err)
			}
			p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: snprintfProgram(f, o, c.args, c.size)}, skep.Options{Engine: e})
			if err != nil {
				t.Fatalf("%q: %+v", c.format, err)
			}
			ret, _, err := p.Test(make([]byte, 64))
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Lookup(uint32(0), &b); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d %q", int32(ret), bytes.TrimRight(b, "\x00")); got != want {
				t.Errorf("%s: %q: kernel %s, here %s", e, c.format, want, got)
			}
			p.Close()
			f.Close()
			o.Close()
		}
	}
}

var outSpec = &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1}

func formatSpec(format string) *ebpf.MapSpec {
	v := make([]byte, 64)
	copy(v, format)
	return &ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1, Flags: 1 << 7, Contents: []ebpf.MapKV{{Key: uint32(0), Value: v}},
	}
}

func snprintfProgram(format, out asm.FDer, args []uint64, size int32) asm.Instructions {
	load := func(r asm.Register, m asm.FDer) asm.Instruction {
		ins := asm.LoadMapValue(r, 0, 0)
		if err := ins.AssociateMap(m); err != nil {
			panic(err)
		}
		return ins
	}
	var insns asm.Instructions
	for i, a := range args {
		insns = append(insns, asm.LoadImm(asm.R3, int64(a), asm.DWord), asm.StoreMem(asm.R10, int16(-96+8*i), asm.R3, asm.DWord))
	}
	insns = append(insns, load(asm.R1, out), asm.Mov.Imm(asm.R2, size), load(asm.R3, format))
	if len(args) > 0 {
		insns = append(insns, asm.Mov.Reg(asm.R4, asm.R10), asm.Add.Imm(asm.R4, -96))
	} else {
		insns = append(insns, asm.Mov.Imm(asm.R4, 0))
	}
	return append(insns, asm.Mov.Imm(asm.R5, int32(8*len(args))), asm.FnSnprintf.Call(), asm.Return())
}
