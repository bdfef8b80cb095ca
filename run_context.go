package skep

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/sysenc"
	"github.com/skep-bpf/skep/verifier"
)

// Contexts of the program types: how the caller's becomes the program's and back.

func put32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }
func put64(b []byte, v uint64) { binary.NativeEndian.PutUint64(b, v) }
func get32(b []byte) uint32    { return binary.NativeEndian.Uint32(b) }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errno.EINVAL)
}

// loadContext copies the caller's context to the start of b, whose first size bytes are the structure; what the caller has
// beyond must be zero. ok is false if there is none.
func loadContext(b []byte, opts *ebpf.RunOptions, size int) (ok bool, err error) {
	clear(b[:size])
	if opts.Context == nil {
		return false, nil
	}
	in := sysenc.Backing(opts.Context)
	if in == nil {
		if in, err = sysenc.Append(nil, opts.Context); err != nil {
			return false, fmt.Errorf("cannot serialize context: %w", err)
		}
	}
	n := copy(b[:size], in)
	for _, c := range in[n:] {
		if c != 0 {
			return false, fmt.Errorf("context of %d bytes, the structure has %d: %w", len(in), size, errno.E2BIG)
		}
	}
	return true, nil
}

// storeContext copies b to ContextOut, as much as it takes; more than b has is an error, as it cannot be filled.
func storeContext(b []byte, opts *ebpf.RunOptions) error {
	if opts.ContextOut == nil {
		return nil
	}
	if dst := sysenc.Backing(opts.ContextOut); dst != nil {
		if len(dst) < len(b) {
			copy(dst, b)
			return fmt.Errorf("ContextOut has %d bytes, the context %d: %w", len(dst), len(b), errno.ENOSPC)
		}
		clear(dst[copy(dst, b):])
		return nil
	}
	n := sysenc.Size(opts.ContextOut)
	if n < 0 || n < len(b) {
		return fmt.Errorf("ContextOut %T does not hold %d bytes: %w", opts.ContextOut, len(b), errno.ENOSPC)
	}
	buf := make([]byte, n)
	copy(buf, b)
	if err := sysenc.Unmarshal(opts.ContextOut, buf); err != nil {
		return fmt.Errorf("failed to decode ContextOut: %w", err)
	}
	return nil
}

// struct xdp_md (linux/bpf.h).
const (
	mdData         = 0
	mdDataEnd      = 4
	mdDataMeta     = 8
	mdIngress      = 12
	mdRxQueue      = 16
	mdEgress       = 20
	mdSize         = 24
	loopback       = 1 // interface that packets come from if the context names none
	maxMeta        = 255
	mdMetaMultiple = 4
)

// setUpXDP: the context's data field is the length of metadata at the start of Data, data_end the length of Data.
func (p *Program) setUpXDP(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if t := p.prog.AttachType; t == ebpf.AttachXDPDevMap || t == ebpf.AttachXDPCPUMap {
		return invalid("programs for map entries (%s) have no test run", t)
	}
	b := f.ctx.Bytes()
	given, err := loadContext(b, opts, mdSize)
	if err != nil {
		return err
	}
	meta := 0
	if given {
		meta = int(get32(b[mdData:]))
		end := get32(b[mdDataEnd:])
		switch {
		case get32(b[mdDataMeta:]) != 0:
			return invalid("context: data_meta is %d, must be 0", get32(b[mdDataMeta:]))
		case uint64(end) != uint64(len(opts.Data)):
			// Since 6.18 the kernel puts what lies behind data_end into fragments, which do not exist here.
			return invalid("context: data_end is %d, Data has %d bytes", end, len(opts.Data))
		case uint64(meta) > uint64(end) || meta > maxMeta || meta%mdMetaMultiple != 0:
			return invalid("context: data is %d, no valid length of metadata", meta)
		case get32(b[mdEgress:]) != 0:
			return invalid("context: egress_ifindex is not 0")
		case get32(b[mdIngress:]) == 0 && get32(b[mdRxQueue:]) != 0:
			return invalid("context: rx_queue_index without ingress_ifindex")
		}
	}
	if len(opts.Data)-meta < ethHeader || len(opts.Data) > maxPacket {
		return invalid("packet of %d bytes, XDP programs take %d to %d", len(opts.Data)-meta, ethHeader, maxPacket)
	}
	f.putPacket(r, opts.Data, headroom-meta)
	f.packet.XDP, f.packet.NetOff = true, ethHeader
	f.packet.Data += uintptr(meta)
	f.packet.End = max(f.packet.Head+frameSize-tailroom, f.packet.DataEnd)
	clear(f.pkt.Bytes()[:headroom-meta]) // what an earlier run left there is not this one's to see
	if f.noIngress = get32(b[mdIngress:]) == 0; f.noIngress {
		put32(b[mdIngress:], loopback)
	}
	f.putPointers()
	return nil
}

func finishXDP(_ *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, out *[]byte) error {
	b, k := f.ctx.Bytes(), &f.packet
	put32(b[mdData:], uint32(k.Data-k.Meta))
	put32(b[mdDataEnd:], uint32(k.DataEnd-k.Meta))
	put32(b[mdDataMeta:], 0)
	if opts.ContextOut != nil {
		// Whence the packet came stays as the caller had it.
		if f.noIngress {
			put32(b[mdIngress:], 0)
		}
		if err := storeContext(b[:mdSize], opts); err != nil {
			return err
		}
	}
	return f.copyOut(k.Meta, opts, out)
}

// setUpRaw: the context is the caller's bytes, at most as many as contexts of the type can have; there is no packet.
func (p *Program) setUpRaw(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if err := p.noPacket(opts); err != nil {
		return err
	}
	if opts.Repeat > 1 && p.prog.Type != ebpf.TracePoint {
		return invalid("%s programs take no Repeat", p.prog.Type)
	}
	b, limit := f.ctx.Bytes(), p.ctx.Size()
	n := 0
	if opts.Context != nil {
		in := sysenc.Backing(opts.Context)
		if in == nil {
			var err error
			if in, err = sysenc.Append(nil, opts.Context); err != nil {
				return fmt.Errorf("cannot serialize context: %w", err)
			}
		}
		if len(in) > limit {
			return invalid("context of %d bytes, %s programs take at most %d", len(in), p.prog.Type, limit)
		}
		n = copy(b, in)
	}
	if p.res != nil && n < p.res.MaxCtx {
		return invalid("context of %d bytes, the program reads %d", n, p.res.MaxCtx)
	}
	clear(b[n:max(n, 8*progtype.MaxTracepointArgs)])
	f.ctxLen, r.CtxLen = n, max(n, 1)
	if p.tailCalls() {
		// A program it goes to may look further, and sees nothing of earlier runs there.
		clear(b[n:limit])
		if p.res != nil {
			r.CtxLen = limit
		}
	}
	return nil
}

// noPacket refuses a packet where the program has none.
func (p *Program) noPacket(opts *ebpf.RunOptions) error {
	if len(opts.Data) != 0 || len(opts.DataOut) != 0 {
		return invalid("%s programs take no packet", p.prog.Kind())
	}
	return nil
}

// finishRaw says what becomes of a context of bytes after the run.
func (p *Program) finishRaw() finisher {
	switch p.prog.Type {
	case ebpf.Syscall:
		return finishSyscall
	case ebpf.TracePoint:
		return finishTracepoint
	}
	return finishRawTP
}

// finishSyscall writes the context back: to Context, if that is memory and not a value, and to ContextOut.
func finishSyscall(_ *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, _ *[]byte) error {
	if opts.Context == nil {
		return nil
	}
	n := f.ctxLen
	if back := sysenc.Backing(opts.Context); back != nil {
		copy(back, f.ctx.Bytes())
	}
	if opts.ContextOut == nil {
		return nil
	}
	if sysenc.Size(opts.ContextOut) != n {
		return invalid("length mismatch: Context and ContextOut")
	}
	return storeContext(f.ctx.Bytes()[:n], opts)
}

// tailCalls reports whether the program may go on in another.
func (p *Program) tailCalls() bool {
	return p.res == nil || slices.ContainsFunc(p.res.Funcs, func(f verifier.FuncFact) bool { return f.HasTailCall })
}

func finishRawTP(_ *Program, _ *rt.Run, _ *frame, opts *ebpf.RunOptions, _ *[]byte) error {
	if opts.ContextOut != nil {
		return invalid("raw tracepoint programs give no context back")
	}
	return nil
}

// finishTracepoint: programs cannot write to the record.
func finishTracepoint(_ *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, _ *[]byte) error {
	return storeContext(f.ctx.Bytes()[:f.ctxLen], opts)
}
