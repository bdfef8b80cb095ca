package skep

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
)

// Runs follow the kernel's BPF_PROG_TEST_RUN (net/bpf/test_run.c, 6.18): what may be passed, how context and packet look to
// the program, what comes back. Where more is allowed here, docs/differences.md says so.

// frame is the memory of one run: context and packet. There is one for each CPU slot and depth of nesting, made when
// first needed and kept.
type frame struct {
	ctx       *offheap.Region
	pkt       *offheap.Region
	packet    rt.Packet
	again     func(*frame) // before each run of a Repeat; nil: nothing
	noIngress bool         // XDP: the caller named no interface
	ctxLen    int          // contexts that are the caller's bytes: how many
	dataLen   int          // hooks: bytes of the packet
}

// Sizes in bytes.
const (
	headroom  = 256      // XDP_PACKET_HEADROOM
	frameSize = 4096     // of an XDP buffer, its metadata included
	tailroom  = 320      // struct skb_shared_info
	maxPacket = 64 << 10 // longer than the kernel's test run takes: 3,520 for XDP, 3,712 for others
	pktRegion = headroom + maxPacket + tailroom
	ctxRegion = 64 << 10
	ethHeader = 14
)

// maxNesting bounds runs within runs: each has memory of its own, and takes some of the goroutine's stack.
const maxNesting = 64

var frames = struct {
	mu  sync.Mutex
	all [][]*frame // by CPU slot; an inner slice belongs to who holds the slot
}{all: make([][]*frame, rt.CPUs())}

// frameFor returns the frame of a run, which holds its slot.
func frameFor(r *rt.Run) (*frame, error) {
	for len(frames.all[r.CPU]) <= r.Depth() {
		ctx, err := offheap.Alloc(ctxRegion, offheap.WithGuard())
		if err != nil {
			return nil, err
		}
		pkt, err := offheap.Alloc(pktRegion, offheap.WithGuard())
		if err != nil {
			_ = ctx.Free()
			return nil, err
		}
		frames.all[r.CPU] = append(frames.all[r.CPU], &frame{ctx: ctx, pkt: pkt})
	}
	return frames.all[r.CPU][r.Depth()], nil
}

// processStart is what times are measured from: only the monotonic clock is read, which takes half as long as time.Now.
var processStart = time.Now()

// run runs the program. outer is the run that a kfunc was called from, nil outside of one. If out is not nil, it receives the
// packet in a new slice. timed: measure, which takes longer than a short run. env is nil for the program's own.
func (p *Program) run(ctx context.Context, outer *rt.Run, env *rt.Env, opts *ebpf.RunOptions, out *[]byte, timed bool) (RunResult, error) {
	if err := p.loaded(); err != nil {
		return RunResult{}, err
	}
	if ctx == nil {
		ctx = context.Background()
	}
	r, err := p.slot(ctx, outer, opts)
	if err != nil {
		return RunResult{}, err
	}
	defer r.Release()
	if p.closed.Load() {
		return RunResult{}, fmt.Errorf("program %s: %w", p.name, ErrClosed)
	}
	f, err := frameFor(r)
	if err != nil {
		return RunResult{}, err
	}
	r.Env, r.Ctx, r.Cancel = cmp.Or(env, p.env), f.ctx.Addr(), ctx
	f.again = nil
	finish, err := p.setUp(r, f, opts)
	if err != nil {
		return RunResult{}, err
	}
	var res RunResult
	n := max(opts.Repeat, 1)
	var start time.Duration
	if timed {
		start = time.Since(processStart)
	}
	for range n {
		r.Redirect.Set = false
		if f.again != nil {
			f.again(f)
		}
		r.NextPass()
		ret, err := p.exec.Exec(ctx, r)
		if err != nil {
			return RunResult{}, err
		}
		res.Return, res.R0 = uint32(ret), ret
	}
	if timed {
		total := time.Since(processStart) - start
		res.Duration, res.NSPerRun = total/time.Duration(n), float64(total.Nanoseconds())/float64(n)
	}
	if r.Redirect.Set {
		res.Redirect = Redirect(r.Redirect)
	}
	return res, finish(p, r, f, opts, out)
}

// onCPU is BPF_F_TEST_RUN_ON_CPU: the run takes the slot that RunOptions.CPU says.
const onCPU = 1

// slot takes the slot of a run.
func (p *Program) slot(ctx context.Context, outer *rt.Run, opts *ebpf.RunOptions) (r *rt.Run, err error) {
	chosen := opts.Flags == onCPU
	switch {
	case opts.Flags&^onCPU != 0 || opts.BatchSize != 0 || opts.CPU != 0 && !chosen:
		return nil, fmt.Errorf("flags but BPF_F_TEST_RUN_ON_CPU, a CPU without it, and a batch size are not supported: %w", errno.EINVAL)
	case chosen && uint64(opts.CPU) >= uint64(rt.CPUs()):
		return nil, fmt.Errorf("program %s: there is no CPU %d, only %d of them: %w", p.name, opts.CPU, rt.CPUs(), errno.ENXIO)
	case outer != nil && chosen && int(opts.CPU) != outer.CPU:
		return nil, fmt.Errorf("program %s: a run inside of one on CPU %d cannot be on CPU %d: %w", p.name, outer.CPU, opts.CPU, errno.EINVAL)
	case outer != nil && outer.Depth() >= maxNesting:
		return nil, fmt.Errorf("program %s: more than %d runs nested in each other: %w", p.name, maxNesting, errno.EINVAL)
	case outer != nil:
		return outer.Nested(), nil
	case chosen:
		r, err = rt.AcquireCPU(ctx, int(opts.CPU))
	default:
		r, err = rt.AcquireContext(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("program %s: not started: %w", p.name, err)
	}
	return r, nil
}

// finisher hands packet and context back after the runs.
type finisher func(p *Program, r *rt.Run, f *frame, opts *ebpf.RunOptions, out *[]byte) error

// setUp fills context and packet by the rules of the program's type.
func (p *Program) setUp(r *rt.Run, f *frame, opts *ebpf.RunOptions) (finisher, error) {
	switch p.prog.Input() {
	case progtype.InputXDP:
		return finishXDP, p.setUpXDP(r, f, opts)
	case progtype.InputSkb:
		return finishSKB, p.setUpSKB(r, f, opts)
	case progtype.InputBytes:
		return p.finishRaw(), p.setUpRaw(r, f, opts)
	case progtype.InputFields:
		return finishFields, p.setUpFields(r, f, opts)
	case progtype.InputHook:
		return finishHook, p.setUpHook(r, f, opts)
	case progtype.InputFlowKeys:
		return finishFlow, p.setUpFlow(r, f, opts)
	case progtype.InputSocketLookup:
		return finishSkLookup, p.setUpSkLookup(r, f, opts)
	}
	return nil, fmt.Errorf("test runs of %s programs: %w", p.prog.Kind(), ebpf.ErrNotSupported)
}

// putPacket places data behind n bytes of headroom.
func (f *frame) putPacket(r *rt.Run, data []byte, n int) {
	head := f.pkt.Addr()
	copy(f.pkt.Bytes()[n:], data)
	start := head + uintptr(n)
	f.packet = rt.Packet{Head: head, Meta: start, Data: start, DataEnd: start + uintptr(len(data)), End: head + uintptr(n+len(data))}
	r.Packet = &f.packet
}

// putPointers writes the packet's addresses where the program loads them.
func (f *frame) putPointers() {
	b := f.ctx.Bytes()
	put64(b[progtype.ShadowData:], uint64(f.packet.Data))
	put64(b[progtype.ShadowDataEnd:], uint64(f.packet.DataEnd))
	put64(b[progtype.ShadowDataMeta:], uint64(f.packet.Meta))
}

// copyOut gives the bytes from start to the end of the packet to the caller, as far as there is room.
func (f *frame) copyOut(start uintptr, opts *ebpf.RunOptions, out *[]byte) error {
	return deliver(f.pkt.Bytes()[start-f.packet.Head:f.packet.DataEnd-f.packet.Head], opts, out)
}

// deliver gives data to the caller, as far as there is room.
func deliver(b []byte, opts *ebpf.RunOptions, out *[]byte) error {
	if out != nil {
		*out = append(make([]byte, 0, len(b)), b...)
		return nil
	}
	if len(opts.DataOut) == 0 {
		return nil
	}
	n := copy(opts.DataOut, b)
	if n < len(b) {
		return fmt.Errorf("DataOut has %d bytes, the data that comes back %d: %w", len(opts.DataOut), len(b), errno.ENOSPC)
	}
	opts.DataOut = opts.DataOut[:n]
	return nil
}
