package skep

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
)

// setUpHook: the context is the hook's structure as the caller has it, zero where there is none, with the addresses of the packet.
func (p *Program) setUpHook(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	h := p.prog.Hook
	if !h.HasPacket() {
		return p.setUpFields(r, f, opts)
	}
	if len(opts.Data) > maxPacket {
		return invalid("packet of %d bytes, programs of hook %s take %d", len(opts.Data), h.Name, maxPacket)
	}
	if err := p.setUpStruct(r, f, opts); err != nil {
		return err
	}
	copy(f.pkt.Bytes(), opts.Data)
	start, n := uint64(f.pkt.Addr()), uint64(len(opts.Data))
	b := f.ctx.Bytes()
	put64(b[h.PacketField(progtype.FieldPacket):], start)
	put64(b[h.PacketField(progtype.FieldPacketEnd):], start+n)
	f.dataLen = len(opts.Data)
	if n != 0 {
		r.AddMem(rt.Region{Base: start, Size: n, Name: "packet"})
	}
	return nil
}

// finishHook gives the structure back with what the program wrote, and the packet.
func finishHook(p *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, out *[]byte) error {
	b := f.ctx.Bytes()[:p.ctx.Size()]
	p.ctx.ClearPointers(b)
	if err := storeContext(b, opts); err != nil || !p.prog.Hook.HasPacket() {
		return err
	}
	return deliver(f.pkt.Bytes()[:f.dataLen], opts, out)
}
