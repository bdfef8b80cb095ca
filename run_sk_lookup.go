package skep

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// struct bpf_sk_lookup (linux/bpf.h).
const (
	lookupFamily     = 8
	lookupProtocol   = 12
	lookupRemoteIP4  = 16
	lookupRemoteIP6  = 20
	lookupRemotePort = 36 // two bytes, and two of padding
	lookupLocalIP4   = 40
	lookupLocalIP6   = 44
	lookupLocalPort  = 60
	lookupIfIndex    = 64
	lookupSize       = 72

	callerLookupAt = 256 // of the caller's context in the context's memory, which has it given back
)

// setUpSkLookup: the context says what was looked for. No socket is selected yet, so that sk is NULL.
func (p *Program) setUpSkLookup(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if err := p.noPacket(opts); err != nil {
		return err
	}
	b := f.ctx.Bytes()
	given, err := loadContext(b, opts, lookupSize)
	switch {
	case err != nil:
		return err
	case !given:
		return invalid("%s programs need a context", p.prog.Type)
	}
	copy(b[callerLookupAt:], b[:lookupSize])
	if off, set := p.ctx.PointerSet(b[:lookupSize]); set {
		return invalid("context: the field at offset %d is a pointer and cannot be set", off)
	}
	for off := lookupIfIndex; off < lookupSize; off++ {
		if b[off] != 0 {
			return invalid("context: the field at offset %d cannot be set", off&^3)
		}
	}
	if port := get32(b[lookupLocalPort:]); port > math.MaxUint16 {
		return fmt.Errorf("context: local_port is %d: %w", port, errno.ERANGE)
	}
	r.CtxLen = lookupSize
	return narrowLookup(b)
}

// narrowLookup keeps what the kernel keeps of a context: 16-bit numbers, and the addresses of its family.
func narrowLookup(b []byte) error {
	for _, off := range []int{lookupFamily, lookupProtocol, lookupRemotePort} {
		put32(b[off:], get32(b[off:])&math.MaxUint16)
	}
	switch get32(b[lookupFamily:]) {
	case afINET:
		clear(b[lookupRemoteIP6:lookupRemotePort])
		clear(b[lookupLocalIP6:lookupLocalPort])
	case afINET6:
		clear(b[lookupRemoteIP4:lookupRemoteIP6])
		clear(b[lookupLocalIP4:lookupLocalIP6])
	default:
		return fmt.Errorf("context: family is %d: %w", get32(b[lookupFamily:]), errno.EAFNOSUPPORT)
	}
	return nil
}

// finishSkLookup gives the context back as it was: no program can select a socket here.
func finishSkLookup(_ *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, _ *[]byte) error {
	return storeContext(f.ctx.Bytes()[callerLookupAt:][:lookupSize], opts)
}
