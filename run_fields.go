package skep

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
)

// setUpFields: the context is a structure of numbers, as the caller has it; what the caller leaves out is zero, and so is
// every pointer.
func (p *Program) setUpFields(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if err := p.noPacket(opts); err != nil {
		return err
	}
	return p.setUpStruct(r, f, opts)
}

// setUpStruct copies the caller's structure.
func (p *Program) setUpStruct(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	b, size := f.ctx.Bytes(), p.ctx.Size()
	if _, err := loadContext(b, opts, size); err != nil {
		return err
	}
	if off, set := p.ctx.PointerSet(b[:size]); set {
		return invalid("context: the field at offset %d is a pointer and cannot be set", off)
	}
	r.CtxLen = size
	return nil
}

// finishFields gives the structure back with what the program wrote.
func finishFields(p *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, _ *[]byte) error {
	return storeContext(f.ctx.Bytes()[:p.ctx.Size()], opts)
}
