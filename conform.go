package skep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/maps"
)

// RunBytecode runs raw instructions (8 bytes each, little-endian fields) on a piece of memory, as the public bpf_conformance
// suite does: r1 holds the memory's address and r2 its length at the start, both 0 if there is none. It returns r0, and what
// the memory holds afterwards. The program is verified like every other: the memory is the value of a map. With
// Options.Unverified, what the verifier refuses is interpreted.
func RunBytecode(code, memory []byte, opts Options) (r0 uint64, out []byte, err error) {
	insns, err := isa.Decode(code, binary.LittleEndian)
	if err != nil {
		return 0, nil, err
	}
	if len(memory) > math.MaxInt32 {
		return 0, nil, errors.New("memory is too large")
	}
	p := &program.Program{Name: "bytecode", Type: ebpf.SocketFilter, License: "GPL", Insns: append(prelude(len(memory)), insns...)}
	l, err := newLoader(&ebpf.CollectionSpec{}, opts)
	if err != nil {
		return 0, nil, err
	}
	var m *Map
	if len(memory) > 0 {
		m, err = maps.New(&ebpf.MapSpec{
			Name: "memory", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(memory)), MaxEntries: 1,
			Contents: []ebpf.MapKV{{Key: uint32(0), Value: memory}},
		})
		if err != nil {
			return 0, nil, err
		}
		defer m.Close()
		p.Maps = append(p.Maps, describe(m))
	}
	if p, err = program.New(p); err != nil {
		return 0, nil, err
	}
	prog, err := l.load(p)
	if err != nil {
		return 0, nil, err
	}
	if err := l.place([]*Program{prog}); err != nil {
		_ = prog.Close()
		return 0, nil, err
	}
	defer prog.Close()
	res, err := prog.run(context.Background(), nil, nil, &ebpf.RunOptions{Data: make([]byte, 64)}, nil, false)
	if err != nil {
		return 0, nil, fmt.Errorf("run: %w", err)
	}
	if m != nil {
		b, _ := maps.SideOf(m).Bytes(0, uint32(len(memory)))
		out = append(out, b...)
	}
	return res.R0, out, nil
}

// prelude sets r1 and r2.
func prelude(n int) []isa.Insn {
	length := isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcK, Dst: isa.R2, Imm: int32(n)}
	if n == 0 {
		return []isa.Insn{{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcK, Dst: isa.R1}, length}
	}
	return []isa.Insn{
		{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: isa.R1, Src: isa.PseudoMapValue}, {},
		length,
	}
}
