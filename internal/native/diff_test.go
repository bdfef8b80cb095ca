//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

var randomN = flag.Int("random", 3000, "random programs per differential test")

// words is the size of the memory that the tests' programs share with the test: r0..r9 in its first words.
const words = 64

// bench runs programs on both engines over the same memory.
type bench struct {
	t   testing.TB
	run *rt.Run
	mem *offheap.Region
}

func newBench(t testing.TB) *bench { return &bench{t: t, run: acquire(t), mem: sharedMemory(t)} }

func sharedMemory(t testing.TB) *offheap.Region {
	m, err := offheap.Alloc(8 * words)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Free() })
	return m
}

// outcome is what a run left.
type outcome struct {
	ret uint64
	mem [words]uint64
	err string
}

func (b *bench) exec(x rt.Executable, in *[words]uint64) (o outcome) {
	for i, v := range in {
		binary.LittleEndian.PutUint64(b.mem.Bytes()[8*i:], v)
	}
	b.run.Ctx, b.run.CtxLen, b.run.Err = b.mem.Addr(), 8*words, nil
	ret, err := x.Exec(context.Background(), b.run)
	if o.ret = ret; err != nil {
		o.err = "error"
		var f *rt.Fault
		if errors.As(err, &f) {
			o.err = fmt.Sprintf("fault at %d", f.Insn)
		}
		return o
	}
	for i := range o.mem {
		o.mem[i] = binary.LittleEndian.Uint64(b.mem.Bytes()[8*i:])
	}
	return o
}

// compare runs p on both engines with each input and reports the first difference.
func (b *bench) compare(p *ir.Program, c *Code, inputs ...[words]uint64) {
	b.t.Helper()
	ic, err := interp.New(p, interp.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range inputs {
		want, got := b.exec(ic, &inputs[i]), b.exec(c, &inputs[i])
		if want != got {
			b.t.Fatalf("input %x\ninterpreter r0=%#x %s %x\ncompiled    r0=%#x %s %x\n%s\n% x", inputs[i][:16], want.ret, want.err,
				want.mem[:16], got.ret, got.err, got.mem[:16], listing(p), c.Text())
		}
	}
}

func listing(p *ir.Program) string {
	var s strings.Builder
	for i, in := range p.Insns {
		fmt.Fprintf(&s, "%3d %v\n", i, in)
	}
	return s.String()
}

// compareAll loads programs together and compares each.
func (b *bench) compareAll(progs []*ir.Program, inputs ...[words]uint64) {
	b.t.Helper()
	for len(progs) > 0 {
		n := min(len(progs), 500)
		codes, err := Load(progs[:n]...)
		if err != nil {
			b.t.Fatal(err)
		}
		for i, c := range codes {
			b.compare(progs[i], c, inputs...)
		}
		for _, c := range codes {
			c.Close()
		}
		progs = progs[n:]
	}
}

func ld(dst, src uint8, off int) ir.Insn {
	return ir.Insn{Op: ir.Load, W: 8, Dst: dst, Src: src, Off: int32(off)}
}

func st(dst, src uint8, off int) ir.Insn {
	return ir.Insn{Op: ir.Store, W: 8, Dst: dst, Src: src, Off: int32(off)}
}

// around puts body between the loading of r0..r9 from the shared memory and the storing of them. Jumps in body are
// relative to its start.
func around(name string, body ...ir.Insn) *ir.Program {
	in := []ir.Insn{st(10, 1, -8)}
	for _, r := range []uint8{0, 2, 3, 4, 5, 6, 7, 8, 9, 1} {
		in = append(in, ld(r, 1, 8*int(r)))
	}
	start := int32(len(in))
	for _, x := range body {
		if x.Op.HasTarget() {
			x.Off += start
		}
		in = append(in, x)
	}
	for r := range uint8(10) {
		in = append(in, st(10, r, -16-8*int(r)))
	}
	in = append(in, ld(1, 10, -8))
	for r := range uint8(10) {
		in = append(in, ld(2, 10, -16-8*int(r)), st(1, 2, 8*int(r)))
	}
	in = append(in, ir.Insn{Op: ir.Mov, W: 8, Flag: ir.FlagImm}, exit)
	for i := range in {
		in[i].PC = int32(i)
	}
	return &ir.Program{Name: name, Insns: in, Funcs: []ir.Func{{Name: name, End: len(in), Stack: 512, OutArgs: 7}}}
}

// edges are the values that arithmetic goes wrong at.
var edges = []uint64{0, 1, 2, 7, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
	0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, ^uint64(0), ^uint64(1), 0xffffffff80000000,
	0x0123456789abcdef, 0xfedcba9876543210}

// pairs puts every pair of edge values into (dst, src), other values elsewhere.
func pairs(dst, src uint8) (in [][words]uint64) {
	for i, a := range edges {
		for k, b := range edges {
			if dst == src && i != k || (i*7+k*3)%4 != 0 && i != k && i%5 != 1 {
				continue // a third of them is enough for each of the many programs
			}
			in = append(in, inputWith(dst, a, src, b))
		}
	}
	return in
}

func inputWith(dst uint8, a uint64, src uint8, b uint64) (w [words]uint64) {
	for r := range w {
		w[r] = 0xdead0000beef0000 + uint64(r)*0x0101010101010101
	}
	w[dst], w[src] = a, b
	return w
}

var aluOps = []ir.Op{ir.Mov, ir.Add, ir.Sub, ir.Mul, ir.Div, ir.Mod, ir.SDiv, ir.SMod, ir.Or, ir.And, ir.Xor, ir.Lsh, ir.Rsh, ir.Arsh}

func TestALURegisters(t *testing.T) {
	b := newBench(t)
	for dst := range uint8(10) {
		for src := range uint8(10) {
			var progs []*ir.Program
			for _, op := range aluOps {
				for _, w := range []uint8{4, 8} {
					progs = append(progs, around("alu", ir.Insn{Op: op, W: w, Dst: dst, Src: src}))
				}
			}
			in := pairs(dst, src)
			if dst > 4 && src > 4 && dst != src { // the registers with a role were tried; of the others, some values
				in = in[:len(in)/4]
			}
			b.compareAll(progs, in...)
		}
	}
}

var imms = []int64{0, 1, -1, 2, 3, 4, 5, 7, 8, 9, 10, 16, 31, 32, 33, 63, 64, 100, 127, 128, -128, -129, 255, 256, 1000, 65535,
	65536, 1 << 30, 1<<31 - 1, -1 << 31, 0x12345678, -12345}

func TestALUImmediates(t *testing.T) {
	b := newBench(t)
	for dst := range uint8(10) {
		var progs []*ir.Program
		for _, op := range aluOps {
			for _, w := range []uint8{4, 8} {
				for _, imm := range imms {
					progs = append(progs, around("imm", ir.Insn{Op: op, W: w, Dst: dst, Imm: imm, Flag: ir.FlagImm}))
				}
			}
		}
		for _, v := range []uint64{1 << 31, 1 << 32, 0xffffffff, 1 << 63, 0x123456789abcdef0} {
			progs = append(progs, around("imm64", ir.Insn{Op: ir.Mov, W: 8, Dst: dst, Imm: int64(v), Flag: ir.FlagImm}))
		}
		b.compareAll(progs, pairs(dst, dst)...)
	}
}

func TestUnary(t *testing.T) {
	b := newBench(t)
	for dst := range uint8(10) {
		for src := range uint8(10) {
			var progs []*ir.Program
			for _, w := range []uint8{4, 8} {
				progs = append(progs, around("neg", ir.Insn{Op: ir.Neg, W: w, Dst: dst}))
				for _, sub := range []uint8{1, 2, 4} {
					if sub < w {
						progs = append(progs, around("sext", ir.Insn{Op: ir.Sext, W: w, Sub: sub, Dst: dst, Src: src}))
					}
					progs = append(progs, around("zext", ir.Insn{Op: ir.Zext, Sub: sub, Dst: dst, Src: src}))
				}
			}
			for _, w := range []uint8{2, 4, 8} {
				progs = append(progs, around("bswap", ir.Insn{Op: ir.Bswap, W: w, Dst: dst}))
			}
			b.compareAll(progs, pairs(src, src)...)
		}
	}
}

func TestBranches(t *testing.T) {
	b := newBench(t)
	mark := func(j ir.Insn) []ir.Insn { // r9 tells whether the jump was taken
		j.Off = 2
		return []ir.Insn{j, {Op: ir.Mov, W: 8, Dst: 9, Imm: 77, Flag: ir.FlagImm}, {Op: ir.Add, W: 8, Dst: 9, Imm: 5, Flag: ir.FlagImm}}
	}
	for _, w := range []uint8{4, 8} {
		for cond := range uint8(ir.NumConds) {
			var progs []*ir.Program
			for _, imm := range imms {
				for _, dst := range []uint8{0, 1, 6, 7} {
					progs = append(progs, around("jimm", mark(ir.Insn{Op: ir.Jcc, Sub: cond, W: w, Dst: dst, Imm: imm, Flag: ir.FlagImm})...))
				}
			}
			var in [][words]uint64
			for _, v := range edges {
				x := inputWith(0, v, 1, v)
				x[6], x[7] = v, v
				in = append(in, x)
			}
			b.compareAll(progs, in...)
			for _, r := range [][2]uint8{{0, 1}, {1, 0}, {2, 8}, {8, 2}, {3, 3}} {
				p := around("jreg", mark(ir.Insn{Op: ir.Jcc, Sub: cond, W: w, Dst: r[0], Src: r[1]})...)
				b.compareAll([]*ir.Program{p}, pairs(r[0], r[1])...)
			}
		}
	}
}

// TestMemory loads and stores every width through every base register.
func TestMemory(t *testing.T) {
	b := newBench(t)
	var progs []*ir.Program
	for base := range uint8(10) {
		// base = address of the shared memory, then an access at several displacements
		ptr := ld(base, 10, -8)
		for _, w := range []uint8{1, 2, 4, 8} {
			for _, off := range []int{128, 256, 100, 131, 248} {
				for val := range uint8(10) {
					progs = append(progs,
						around("load", ptr, ir.Insn{Op: ir.Load, W: w, Dst: val, Src: base, Off: int32(off)}),
						around("acquire", ptr, ir.Insn{Op: ir.LoadAcquire, W: w, Dst: val, Src: base, Off: int32(off &^ 7)}),
						around("store", ptr, ir.Insn{Op: ir.Store, W: w, Dst: base, Src: val, Off: int32(off)}),
						around("release", ptr, ir.Insn{Op: ir.StoreRelease, W: w, Dst: base, Src: val, Off: int32(off &^ 7)}))
					if w < 8 {
						progs = append(progs, around("loadsx", ptr, ir.Insn{Op: ir.Load, Flag: ir.FlagSigned, W: w, Dst: val, Src: base, Off: int32(off)}))
					}
					if w > 1 {
						progs = append(progs, around("loadswap", ptr, ir.Insn{Op: ir.Load, W: w, Dst: val, Src: base, Off: int32(off)},
							ir.Insn{Op: ir.Bswap, W: w, Dst: val}))
					}
				}
				for _, imm := range []int64{0, -1, 0x12345678, -0x80000000} {
					progs = append(progs, around("storeimm", ptr, ir.Insn{Op: ir.Store, W: w, Dst: base, Imm: imm, Flag: ir.FlagImm, Off: int32(off)}))
				}
			}
		}
	}
	var in [words]uint64
	r := rand.New(rand.NewPCG(1, 2))
	for i := range in {
		in[i] = r.Uint64() | 0x8080808080808080
	}
	b.compareAll(progs, in)
}

func TestAtomics(t *testing.T) { atomics(newBench(t)) }

func atomics(b *bench) {
	var progs []*ir.Program
	for base := range uint8(10) {
		for src := range uint8(10) {
			for _, w := range []uint8{4, 8} {
				for op := ir.AtomicAdd; op <= ir.AtomicCmpXchg; op++ {
					for _, flag := range []uint8{0, ir.FlagFetch} {
						if flag != 0 && op > ir.AtomicXor || base == src && op == ir.AtomicCmpXchg && base == 0 {
							continue
						}
						progs = append(progs, around("atomic", ld(base, 10, -8), ir.Insn{Op: op, W: w, Flag: flag, Dst: base, Src: src, Off: 128}))
						// with the old value of r0 not needed afterwards
						progs = append(progs, around("atomic0", ld(base, 10, -8), ir.Insn{Op: op, W: w, Flag: flag, Dst: base, Src: src, Off: 128}, movImm(0, 3)))
					}
				}
			}
		}
	}
	in := make([][words]uint64, 3)
	for i := range in {
		in[i] = inputWith(0, 0x1122334455667788, 1, 0x8877665544332211)
		in[i][16] = [3]uint64{0x1122334455667788, 0x99aabbcc55667788, 0xffffffffffffffff}[i]
	}
	b.compareAll(progs, in...)
}

// TestRandom compares random straight code with forward jumps: pairs of instructions that become one, flags that are
// used again, registers that are dead after a division.
func TestRandom(t *testing.T) {
	b := newBench(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for n := 0; n < *randomN; n += 250 {
		var progs []*ir.Program
		for range 250 {
			progs = append(progs, around("random", randomBody(r)...))
		}
		in := make([][words]uint64, 6)
		for i := range in {
			for k := range in[i] {
				if in[i][k] = edges[r.IntN(len(edges))]; r.IntN(2) == 0 {
					in[i][k] = r.Uint64() >> r.IntN(64)
				}
			}
		}
		b.compareAll(progs, in...)
	}
}

func randomBody(r *rand.Rand) (body []ir.Insn) {
	n := 4 + r.IntN(24)
	few := 2 + r.IntN(8) // registers in play
	reg := func() uint8 { return uint8(r.IntN(few)) }
	last := reg()
	const slot = -200 // of a stack area of eight words
	for k := range 8 {
		body = append(body, ir.Insn{Op: ir.Store, W: 8, Dst: 10, Src: uint8(k), Off: int32(slot - 8*k)})
	}
	for i := range n {
		in := ir.Insn{Op: aluOps[r.IntN(len(aluOps))], W: 4 << r.IntN(2), Dst: reg(), Src: reg()}
		if r.IntN(2) == 0 {
			in.Dst = last
		}
		if r.IntN(3) != 0 {
			in.Src, in.Imm, in.Flag = 0, imms[r.IntN(len(imms))], ir.FlagImm
		}
		switch r.IntN(12) {
		case 0:
			in = ir.Insn{Op: ir.Bswap, W: 2 << r.IntN(3), Dst: in.Dst}
		case 1, 2, 3:
			in.Op, in.Sub, in.Off = ir.Jcc, uint8(r.IntN(int(ir.NumConds))), int32(8+i+1+r.IntN(n-i))
			if r.IntN(2) == 0 {
				in.Imm = 0
			}
		case 4:
			in = ir.Insn{Op: ir.Mov, W: 8, Dst: in.Dst, Src: reg()}
		case 5:
			in = ir.Insn{Op: ir.Load, W: 1 << r.IntN(4), Dst: in.Dst, Src: 10, Off: int32(slot - 8*r.IntN(8))}
			body = append(body, ir.Insn{Op: ir.Store, W: 8, Dst: 10, Src: reg(), Off: in.Off})
		case 6:
			in = ir.Insn{Op: ir.Lsh, W: 8, Dst: in.Dst, Imm: 32, Flag: ir.FlagImm}
		case 7:
			in = ir.Insn{Op: ir.Rsh + ir.Op(r.IntN(2)), W: 8, Dst: in.Dst, Imm: 32, Flag: ir.FlagImm}
		}
		last = in.Dst
		body = append(body, in)
	}
	for i := range body { // targets were counted without the stores in between; that keeps them in range
		if body[i].Op.HasTarget() && int(body[i].Off) <= i {
			body[i].Off = int32(i + 1)
		}
	}
	return body
}

// plain makes code for a processor without extensions until the test ends.
func plain(t *testing.T) {
	had := features
	t.Cleanup(func() { features = had })
	features = options{}
}

// TestNoExtensions runs shifts as for a processor without BMI2, atomics as for one without LSE.
func TestNoExtensions(t *testing.T) {
	plain(t)
	b := newBench(t)
	atomics(b)
	for dst := range uint8(10) {
		for src := range uint8(10) {
			var progs []*ir.Program
			for _, op := range []ir.Op{ir.Lsh, ir.Rsh, ir.Arsh} {
				for _, w := range []uint8{4, 8} {
					progs = append(progs, around("shift", ir.Insn{Op: op, W: w, Dst: dst, Src: src}))
				}
			}
			b.compareAll(progs, pairs(dst, src)...)
		}
	}
}
