package skep

import (
	"encoding/binary"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
)

// struct bpf_flow_keys (linux/bpf.h): offsets of the fields that a run fills or takes.
const (
	keysNetOff       = 0
	keysTransportOff = 2
	keysProtocol     = 10
	keysFlags        = 48
	keysFlagsEnd     = 52

	flowKeysAt   = 512 // of the keys in the context's memory, behind the context
	callerKeysAt = flowKeysAt + 128
	etherType    = 12
)

// setUpFlow: the program sees the packet from its Ethernet header on and the keys it is to fill. The caller's context is a
// struct bpf_flow_keys, of which only the flags can be set.
func (p *Program) setUpFlow(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if len(opts.Data) < ethHeader || len(opts.Data) > maxPacket {
		return invalid("packet of %d bytes, %s programs take %d to %d", len(opts.Data), p.prog.Type, ethHeader, maxPacket)
	}
	b := f.ctx.Bytes()
	clear(b[:progtype.SkbSize])
	caller := b[callerKeysAt:][:progtype.FlowKeysSize]
	if _, err := loadContext(caller, opts, len(caller)); err != nil {
		return err
	}
	for i, c := range caller {
		if c != 0 && (i < keysFlags || i >= keysFlagsEnd) {
			return invalid("context: the flow key at offset %d cannot be set", i)
		}
	}
	f.putPacket(r, opts.Data, headroom)
	f.packet.NetOff = ethHeader
	f.putPointers()
	keys := f.ctx.Addr() + flowKeysAt
	put64(b[progtype.FlowKeysPointer:], uint64(keys))
	r.AddMem(rt.Region{Base: uint64(keys), Size: progtype.FlowKeysSize, Name: "flow keys"})
	f.again = startFlow
	return nil
}

// startFlow sets the keys to what they are before the program looks at the packet.
func startFlow(f *frame) {
	b := f.ctx.Bytes()
	keys := b[flowKeysAt:][:progtype.FlowKeysSize]
	clear(keys)
	binary.NativeEndian.PutUint16(keys[keysNetOff:], ethHeader)
	binary.NativeEndian.PutUint16(keys[keysTransportOff:], ethHeader)
	copy(keys[keysProtocol:keysProtocol+2], f.pkt.Bytes()[headroom+etherType:])
	copy(keys[keysFlags:keysFlagsEnd], b[callerKeysAt+keysFlags:])
}

// finishFlow gives back the keys as data, with the offsets of headers inside the packet, and the caller's context as it was.
func finishFlow(_ *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, out *[]byte) error {
	keys := f.ctx.Bytes()[flowKeysAt:][:progtype.FlowKeysSize]
	low, high := uint16(ethHeader), uint16(min(f.packet.DataEnd-f.packet.Data, 1<<16-1))
	for _, off := range []int{keysNetOff, keysTransportOff} {
		low = min(max(binary.NativeEndian.Uint16(keys[off:]), low), high)
		binary.NativeEndian.PutUint16(keys[off:], low)
	}
	if opts.Context != nil {
		if err := storeContext(f.ctx.Bytes()[callerKeysAt:][:progtype.FlowKeysSize], opts); err != nil {
			return err
		}
	}
	return deliver(keys, opts, out)
}
