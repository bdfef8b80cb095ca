//go:build linux

package skep_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
)

// The running kernel is the oracle of these tests: the same program, packet and context go through its BPF_PROG_TEST_RUN and
// through every engine here.

// subject is one program on all engines.
type subject struct {
	t      *testing.T
	kernel *ebpf.Program
	ours   []*skep.Program
}

func needKernel(t *testing.T) {
	t.Helper()
	if err := kernelMissing(); err != nil {
		t.Skipf("the kernel is the oracle of this test, and it cannot be used (root?): %v", err)
	}
}

// kernelMissing says why the kernel cannot be asked, nil if it can.
func kernelMissing() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

func newSubject(t *testing.T, typ ebpf.ProgramType, insns asm.Instructions) *subject {
	t.Helper()
	s := &subject{t: t}
	spec := &ebpf.ProgramSpec{Type: typ, License: "GPL", Instructions: insns}
	if typ == ebpf.CGroupSKB {
		spec.AttachType = ebpf.AttachCGroupInetIngress
	}
	if typ == ebpf.SkLookup {
		spec.AttachType = ebpf.AttachSkLookup
	}
	if typ == ebpf.Syscall {
		spec.Flags = 1 << 4 // BPF_F_SLEEPABLE
	}
	var err error
	if s.kernel, err = ebpf.NewProgram(spec); err != nil {
		t.Fatalf("kernel: %+v", err)
	}
	t.Cleanup(func() { s.kernel.Close() })
	for _, e := range engines() {
		p, err := skep.NewProgramWithOptions(spec, skep.Options{Engine: e})
		if err != nil {
			t.Fatalf("%s: %+v", e, err)
		}
		t.Cleanup(func() { p.Close() })
		s.ours = append(s.ours, p)
	}
	return s
}

// class is the part of an error that must agree.
func class(err error) string {
	if err == nil {
		return "ok"
	}
	for _, e := range []syscall.Errno{syscall.EINVAL, syscall.ENOSPC, syscall.E2BIG, syscall.EFAULT, syscall.EPERM, syscall.ERANGE, syscall.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "other: " + err.Error()
}

// run compares one run everywhere.
func (s *subject) run(what string, data, ctx []byte, ctxOut int) {
	s.t.Helper()
	mk := func() *ebpf.RunOptions {
		o := &ebpf.RunOptions{Data: bytes.Clone(data)}
		if data != nil {
			o.DataOut = make([]byte, len(data)+4000)
		}
		if ctx != nil {
			o.Context = bytes.Clone(ctx)
		}
		if ctxOut > 0 {
			o.ContextOut = make([]byte, ctxOut)
		}
		return o
	}
	ko := mk()
	kret, kerr := s.kernel.Run(ko)
	for _, p := range s.ours {
		o := mk()
		ret, err := p.Run(o)
		at := fmt.Sprintf("%s, %s", what, p.Engine())
		if class(err) != class(kerr) {
			s.t.Errorf("%s: kernel %v, here %v", at, kerr, err)
			continue
		}
		if kerr != nil {
			continue
		}
		if ret != kret {
			s.t.Errorf("%s: kernel returns %#x, here %#x", at, kret, ret)
		}
		if !bytes.Equal(o.DataOut, ko.DataOut) {
			s.t.Errorf("%s: packet: %s", at, firstDiff(ko.DataOut, o.DataOut))
		}
		if ctxOut > 0 && !bytes.Equal(o.ContextOut.([]byte), ko.ContextOut.([]byte)) {
			s.t.Errorf("%s: context: %s", at, firstDiff(ko.ContextOut.([]byte), o.ContextOut.([]byte)))
		}
	}
}

// firstDiff says where two results differ.
func firstDiff(kernel, here []byte) string {
	for i := range min(len(kernel), len(here)) {
		if kernel[i] != here[i] {
			return fmt.Sprintf("at %d the kernel has %x, here %x (lengths %d, %d)", i, kernel[i:min(i+8, len(kernel))], here[i:min(i+8, len(here))], len(kernel), len(here))
		}
	}
	return fmt.Sprintf("the kernel has %d bytes, here %d", len(kernel), len(here))
}

// testFrames are packets of several kinds: what the kernel makes of their headers shows in the context.
func testFrames() map[string][]byte {
	f := func(dst string, proto uint16, payload ...byte) []byte {
		b := append([]byte(dst), 2, 2, 2, 2, 2, 2, byte(proto>>8), byte(proto))
		b = append(b, payload...)
		for len(b) < 60 {
			b = append(b, byte(len(b)))
		}
		return b
	}
	zero, ones := "\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xff\xff\xff"
	return map[string][]byte{
		"ipv4":       f(zero, 0x0800, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2),
		"ipv6":       f("\x02\x00\x00\x00\x00\x01", 0x86dd, 0x60),
		"broadcast":  f(ones, 0x0806),
		"multicast":  f("\x01\x00\x5e\x00\x00\x01", 0x1234),
		"802.3":      f(zero, 46, 0xaa, 0xaa),
		"novell":     f(zero, 46, 0xff, 0xff),
		"header":     f(zero, 0x0800)[:14],
		"short ip":   f(zero, 0x0800)[:20],
		"arp header": f(zero, 0x0806)[:14],
		"short ip6":  f(zero, 0x86dd)[:53],
		"whole ip6":  f(zero, 0x86dd)[:54],
		"whole ip":   f(zero, 0x0800)[:34],
		"long":       append(f(zero, 0x0800), make([]byte, 1400)...),
	}
}

// TestContextFieldsAsKernel reads every 32-bit field of the context.
func TestContextFieldsAsKernel(t *testing.T) {
	needKernel(t)
	lwtFields := []int16{0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 84, 164, 176}
	fields := map[ebpf.ProgramType][]int16{
		ebpf.SocketFilter: {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 84},
		ebpf.SchedCLS:     {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 84, 160, 164, 176},
		ebpf.CGroupSKB:    {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 84, 88, 92, 96, 164, 176},
		ebpf.XDP:          {12, 16},
		ebpf.LWTIn:        lwtFields,
		ebpf.LWTOut:       lwtFields,
		ebpf.LWTXmit:      lwtFields,
	}
	for typ, offs := range fields {
		for _, off := range offs {
			insns := asm.Instructions{asm.LoadMem(asm.R0, asm.R1, off, asm.Word), asm.Return()}
			if typ == ebpf.CGroupSKB {
				// It returns 0 or 1 only: compare bit by bit through the packet's mark, which comes back.
				insns = asm.Instructions{
					asm.LoadMem(asm.R0, asm.R1, off, asm.Word), asm.StoreMem(asm.R1, 48, asm.R0, asm.Word), asm.Mov.Imm(asm.R0, 1), asm.Return(),
				}
			}
			s := newSubject(t, typ, insns)
			for name, frame := range testFrames() {
				ctxOut := 0
				if typ == ebpf.CGroupSKB {
					ctxOut = 192
				}
				s.run(fmt.Sprintf("%s field %d, %s", typ, off, name), frame, nil, ctxOut)
			}
		}
	}
}

// TestContextInAsKernel gives contexts with one field set, for every field: what is taken, what is refused, what comes back.
func TestContextInAsKernel(t *testing.T) {
	needKernel(t)
	pass := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
	frame := testFrames()["ipv4"]
	for typ, size := range map[ebpf.ProgramType]int{
		ebpf.SchedCLS: 192, ebpf.SocketFilter: 192, ebpf.CGroupSKB: 192, ebpf.XDP: 24, ebpf.LWTIn: 192, ebpf.LWTOut: 192, ebpf.LWTXmit: 192,
	} {
		s := newSubject(t, typ, pass)
		base := make([]byte, size)
		if typ == ebpf.XDP {
			base[4] = byte(len(frame)) // data_end; with another one the kernel makes fragments, see docs/differences.md
		} else {
			s.run(fmt.Sprintf("%s no context", typ), frame, nil, size)
		}
		s.run(fmt.Sprintf("%s empty context", typ), frame, base, size)
		s.run(fmt.Sprintf("%s short context", typ), frame, base[:8], size)
		s.run(fmt.Sprintf("%s long context of zeros", typ), frame, append(bytes.Clone(base), 0, 0, 0), size)
		s.run(fmt.Sprintf("%s long context", typ), frame, append(bytes.Clone(base), 0, 0, 1), size)
		s.run(fmt.Sprintf("%s short context out", typ), frame, base, size-8)
		for off := 0; off < size; off += 4 {
			for _, v := range []byte{1, 60, 200} {
				if (typ != ebpf.XDP && off == 40 || typ == ebpf.XDP && off == 12) && v > 1 {
					continue // interfaces that this kernel may or may not have
				}
				ctx := bytes.Clone(base)
				ctx[off] = v
				if typ == ebpf.XDP && off == 4 && v < 60 {
					continue
				}
				s.run(fmt.Sprintf("%s field %d = %d", typ, off, v), frame, ctx, size)
			}
		}
	}
}

// TestPacketSizesAsKernel tries lengths around the limits.
func TestPacketSizesAsKernel(t *testing.T) {
	needKernel(t)
	for _, typ := range []ebpf.ProgramType{
		ebpf.SchedCLS, ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.XDP, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.FlowDissector,
	} {
		s := newSubject(t, typ, asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()})
		for _, n := range []int{0, 1, 13, 14, 15, 34, 64, 1500, 3000} {
			s.run(fmt.Sprintf("%s %d bytes", typ, n), make([]byte, n), nil, 0)
		}
	}
}

// TestXDPMetadataAsKernel passes metadata in front of the packet and moves all its borders.
func TestXDPMetadataAsKernel(t *testing.T) {
	needKernel(t)
	frame := testFrames()["ipv4"]
	adjust := map[string]asm.BuiltinFunc{"head": asm.FnXdpAdjustHead, "meta": asm.FnXdpAdjustMeta, "tail": asm.FnXdpAdjustTail}
	for name, fn := range adjust {
		for _, d := range []int32{0, 1, -1, 4, -4, 8, -8, -32, -36, 32, 46, 47, -46, -47, 60, -60, -216, -217, -215, -252, -256, -100, 100, 3200, 3460, 3461, 3500, -212, -208, -204, -200} {
			s := newSubject(t, ebpf.XDP, asm.Instructions{
				asm.Mov.Reg(asm.R6, asm.R1),
				asm.Mov.Imm(asm.R2, d),
				fn.Call(),
				asm.Mov.Reg(asm.R7, asm.R0),
				// Distances between the pointers as the program sees them, in the verdict.
				asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
				asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
				asm.LoadMem(asm.R4, asm.R6, 8, asm.Word),
				asm.Sub.Reg(asm.R3, asm.R2),
				asm.Sub.Reg(asm.R2, asm.R4),
				asm.LSh.Imm(asm.R2, 12),
				asm.Mov.Reg(asm.R0, asm.R7),
				asm.LSh.Imm(asm.R0, 24),
				asm.Add.Reg(asm.R0, asm.R2),
				asm.Add.Reg(asm.R0, asm.R3),
				asm.Return(),
			})
			for _, meta := range []byte{0, 4, 32} {
				ctx := make([]byte, 24)
				ctx[0], ctx[4] = meta, byte(len(frame)+int(meta))
				data := append(bytes.Repeat([]byte{0xee}, int(meta)), frame...)
				s.run(fmt.Sprintf("adjust_%s %d, metadata %d", name, d, meta), data, ctx, 24)
			}
		}
	}
}

// packetHelpers makes a program that calls fn with ctx and constants, and returns what it returned. Memory arguments are 16
// bytes of stack.
func helperProgram(fn asm.BuiltinFunc, memArg asm.Register, args map[asm.Register]int32, fill bool) asm.Instructions {
	insns := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	if fill {
		insns = append(insns,
			asm.LoadImm(asm.R3, 0x0123456789abcdef, asm.DWord), asm.StoreMem(asm.R10, -16, asm.R3, asm.DWord),
			asm.LoadImm(asm.R3, 0x1122334455667788, asm.DWord), asm.StoreMem(asm.R10, -8, asm.R3, asm.DWord))
	}
	insns = append(insns, asm.Mov.Reg(asm.R1, asm.R6))
	for r, v := range args {
		insns = append(insns, asm.LoadImm(r, int64(v), asm.DWord))
	}
	if memArg != 0 {
		insns = append(insns, asm.Mov.Reg(memArg, asm.R10), asm.Add.Imm(memArg, -16))
	}
	insns = append(insns, fn.Call())
	if !fill && memArg != 0 {
		insns = append(insns, // what was loaded
			asm.LoadMem(asm.R1, asm.R10, -16, asm.DWord), asm.Add.Reg(asm.R0, asm.R1), asm.LoadMem(asm.R1, asm.R10, -8, asm.DWord), asm.Xor.Reg(asm.R0, asm.R1))
	}
	return append(insns, asm.Return())
}

// TestPacketHelpersAsKernel calls the helpers on packets with offsets around the borders.
func TestPacketHelpersAsKernel(t *testing.T) {
	needKernel(t)
	frame := testFrames()["ipv4"]
	offs := []int32{0, 1, 13, 14, 24, 40, 43, 44, 45, 59, 60, 61, 0xffff, 0x10000, 0x7fffffff, -1, -14}
	for _, off := range offs {
		for _, c := range []struct {
			name string
			typ  ebpf.ProgramType
			fn   asm.BuiltinFunc
			mem  asm.Register
			args map[asm.Register]int32
			fill bool
		}{
			{"skb_load_bytes", ebpf.SchedCLS, asm.FnSkbLoadBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, false},
			{"skb_load_bytes", ebpf.SocketFilter, asm.FnSkbLoadBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, false},
			{"skb_load_bytes_relative mac", ebpf.SchedCLS, asm.FnSkbLoadBytesRelative, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 0}, false},
			{"skb_load_bytes_relative net", ebpf.SchedCLS, asm.FnSkbLoadBytesRelative, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 1}, false},
			{"skb_load_bytes_relative mac", ebpf.SocketFilter, asm.FnSkbLoadBytesRelative, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 0}, false},
			{"skb_load_bytes_relative net", ebpf.SocketFilter, asm.FnSkbLoadBytesRelative, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 1}, false},
			{"skb_load_bytes_relative bad", ebpf.SocketFilter, asm.FnSkbLoadBytesRelative, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 2}, false},
			{"skb_store_bytes", ebpf.SchedCLS, asm.FnSkbStoreBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 0}, true},
			{"skb_store_bytes csum", ebpf.SchedCLS, asm.FnSkbStoreBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 1}, true},
			{"skb_store_bytes bad flags", ebpf.SchedCLS, asm.FnSkbStoreBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 4}, true},
			{"skb_pull_data", ebpf.SchedCLS, asm.FnSkbPullData, 0, map[asm.Register]int32{asm.R2: off}, false},
			{"skb_load_bytes", ebpf.LWTIn, asm.FnSkbLoadBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, false},
			{"skb_load_bytes", ebpf.LWTXmit, asm.FnSkbLoadBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, false},
			{"skb_store_bytes", ebpf.LWTXmit, asm.FnSkbStoreBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16, asm.R5: 0}, true},
			{"skb_pull_data", ebpf.LWTOut, asm.FnSkbPullData, 0, map[asm.Register]int32{asm.R2: off}, false},
			{"l3_csum_replace", ebpf.LWTXmit, asm.FnL3CsumReplace, 0, map[asm.Register]int32{asm.R2: off, asm.R3: 1, asm.R4: 7, asm.R5: 2}, false},
			{"l4_csum_replace", ebpf.LWTXmit, asm.FnL4CsumReplace, 0, map[asm.Register]int32{asm.R2: off, asm.R3: 1, asm.R4: 7, asm.R5: 2}, false},
			{"xdp_load_bytes", ebpf.XDP, asm.FnXdpLoadBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, true},
			{"xdp_store_bytes", ebpf.XDP, asm.FnXdpStoreBytes, asm.R3, map[asm.Register]int32{asm.R2: off, asm.R4: 16}, true},
		} {
			newSubject(t, c.typ, helperProgram(c.fn, c.mem, c.args, c.fill)).run(fmt.Sprintf("%s %s at %d", c.typ, c.name, off), frame, nil, 0)
		}
	}
}

// TestChecksumHelpersAsKernel calls the checksum helpers with random fields.
func TestChecksumHelpersAsKernel(t *testing.T) {
	needKernel(t)
	rng := rand.New(rand.NewPCG(3, 4))
	val := func() int32 {
		switch rng.IntN(4) {
		case 0:
			return 0
		case 1:
			return -1
		case 2:
			return int32(rng.IntN(1 << 16))
		}
		return int32(rng.Uint32())
	}
	for i := range 300 {
		frame := make([]byte, 64)
		for k := range frame {
			frame[k] = byte(rng.Uint32() >> rng.IntN(30))
		}
		if i%5 == 0 {
			frame[24], frame[25] = 0, 0
		}
		off := []int32{24, 24, 24, 25, 62, 63, 64, 0x10000, 50}[rng.IntN(9)]
		flags := []int32{0, 2, 4, 3, 0x10, 0x14, 0x20, 0x24, 0x22, 0x62, 0x64, 0x80, 0x84, 0x100}[rng.IntN(14)]
		from := val()
		if flags&15 == 0 && rng.IntN(4) != 0 {
			from = 0
		}
		for _, fn := range []asm.BuiltinFunc{asm.FnL3CsumReplace, asm.FnL4CsumReplace} {
			args := map[asm.Register]int32{asm.R2: off, asm.R3: from, asm.R4: val(), asm.R5: flags}
			newSubject(t, ebpf.SchedCLS, helperProgram(fn, 0, args, false)).run(fmt.Sprintf("%s %v", fn, args), frame, nil, 0)
		}
		diff := asm.Instructions{
			asm.LoadImm(asm.R3, int64(rng.Uint64()), asm.DWord), asm.StoreMem(asm.R10, -16, asm.R3, asm.DWord),
			asm.LoadImm(asm.R3, int64(rng.Uint64()), asm.DWord), asm.StoreMem(asm.R10, -8, asm.R3, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, []int32{0, 4, 8, 3}[rng.IntN(4)]),
			asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, -8), asm.Mov.Imm(asm.R4, []int32{0, 4, 8, 6}[rng.IntN(4)]),
			asm.LoadImm(asm.R5, int64(uint32(val())), asm.DWord),
			asm.FnCsumDiff.Call(), asm.Return(),
		}
		newSubject(t, ebpf.SchedCLS, diff).run(fmt.Sprintf("csum_diff %d", i), frame, nil, 0)
	}
}

// TestSyscallAndTracepointAsKernel compares contexts that are the caller's bytes.
func TestSyscallAndTracepointAsKernel(t *testing.T) {
	needKernel(t)
	sys := newSubject(t, ebpf.Syscall, asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, 8, asm.DWord), asm.StoreMem(asm.R1, 16, asm.R0, asm.DWord), asm.Return(),
	})
	for _, n := range []int{0, 8, 23, 24, 32, 65535, 65536} {
		ctx := make([]byte, n)
		if n > 8 {
			ctx[8] = 42
		}
		sys.run(fmt.Sprintf("syscall, context of %d", n), nil, ctx, n)
	}
	sys.run("syscall with a packet", make([]byte, 64), make([]byte, 24), 0)
	tp := newSubject(t, ebpf.RawTracepoint, asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 24, asm.DWord), asm.Return()})
	for _, n := range []int{0, 24, 32, 96, 104} {
		ctx := make([]byte, n)
		if n > 24 {
			ctx[24] = 42
		}
		tp.run(fmt.Sprintf("raw tracepoint, context of %d", n), nil, ctx, 0)
	}
}
