// Package difftest compares what must be equal: skep's verifier with the kernel's, skep's engines with each other and
// with the kernel's runs, and the values of a run with what the verifier claims of them. Its tests are the project's
// oracle tests; where bpf(2) is not permitted they compare what there is.
//
// It stands above every package that it compares and nothing imports it.
package difftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Outcome is what one run of a program left.
type Outcome struct {
	R0   uint64
	Data []byte           // the packet
	Maps [][]progen.Entry // by map, ordered by key; per-CPU values with all CPUs' bits joined
}

// World is what programs of one set of maps run in: the maps, a packet buffer and a context block. It serves one run at
// a time.
type World struct {
	specs  []program.Map
	maps   []*maps.Map
	mem    *offheap.Region
	kfuncs []lower.KfuncBinding
	heap   *objects.Heap // of programs that allocate objects, see MakeObjects
	makers []rt.Handle
}

// The layout of World.mem: the context block with the keys of a flow dissector in it, then a packet buffer with room in front. The context of a syscall program
// is as large as it can be.
const (
	keysAt    = 512
	ctxMax    = progtype.MaxSyscallCtx + 1
	headroom  = 256
	packetAt  = ctxMax + headroom
	packetMax = 4096
	worldSize = packetAt + packetMax
)

// NewWorld makes the maps that programs name. Close frees them.
func NewWorld(specs []program.Map) (*World, error) { return newWorld(specs, nil) }

// newWorld is NewWorld for maps whose values are of types.
func newWorld(specs []program.Map, types *btf.Spec) (*World, error) {
	w := &World{specs: specs}
	var err error
	if w.mem, err = offheap.Alloc(worldSize); err != nil {
		return nil, err
	}
	for _, s := range specs {
		spec := &ebpf.MapSpec{Name: s.Name, Type: s.Type, KeySize: s.KeySize, ValueSize: s.ValueSize, MaxEntries: s.MaxEntries, Flags: s.Flags, Key: s.Key, Value: s.Value}
		if s.Inner != nil {
			spec.InnerMap = &ebpf.MapSpec{Name: s.Inner.Name, Type: s.Inner.Type, KeySize: s.Inner.KeySize, ValueSize: s.Inner.ValueSize,
				MaxEntries: s.Inner.MaxEntries, Flags: s.Inner.Flags}
		}
		if s.Contents != nil {
			spec.Contents = []ebpf.MapKV{{Key: uint32(0), Value: s.Contents}}
		}
		m, err := maps.NewWithOptions(spec, maps.Options{Types: types})
		if err == nil && s.Frozen && !m.Frozen() {
			err = m.Freeze()
		}
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.maps = append(w.maps, m)
	}
	return w, nil
}

// NewWorldFor makes a world for one program: its maps, and for each kfunc a Go function that
// returns a number, or NULL where the kfunc may return that. The error is not nil where that does not do.
func NewWorldFor(p *program.Program) (*World, error) {
	w, err := NewWorld(p.Maps)
	if err != nil {
		return nil, err
	}
	for i := range p.Kfuncs {
		if err := w.bindKfunc(&p.Kfuncs[i]); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

func (w *World) bindKfunc(k *program.Kfunc) error {
	if !k.Resolved && kernelkfunc.Find(k.Name) != nil && !program.BuiltinKfunc(k.Name) {
		return fmt.Errorf("kfunc %s is the kernel's", k.Name)
	}
	b := lower.KfuncBinding{Result: lower.Ext{Bytes: 8}}
	if k.Type != nil {
		proto, ok := k.Type.Type.(*btf.FuncProto)
		if !ok {
			return fmt.Errorf("kfunc %s has no prototype", k.Name)
		}
		result := uint64(5)
		if _, pointer := btf.UnderlyingType(proto.Return).(*btf.Pointer); pointer {
			if k.Flags&program.KfuncRetNull == 0 {
				return fmt.Errorf("kfunc %s returns a pointer", k.Name)
			}
			result = 0
		}
		b.Args = slices.Repeat([]lower.Ext{{Bytes: 8}}, len(proto.Params))
		b.Handle = rt.Register(func(*rt.Run, *[12]uint64) uint64 { return result })
	}
	w.kfuncs = append(w.kfuncs, b)
	return nil
}

// Close frees the maps and the memory.
func (w *World) Close() error {
	for _, k := range w.kfuncs {
		if k.Handle != 0 {
			rt.Unregister(k.Handle)
		}
	}
	for _, h := range w.makers {
		rt.Unregister(h)
	}
	if w.heap != nil {
		w.heap.Unhold()
	}
	err := w.mem.Free()
	for _, m := range w.maps {
		err = errors.Join(err, m.Close())
	}
	return err
}

// MakeObjects has a program with these types of objects make them in the world's own heap.
func (w *World) MakeObjects(e *lower.Env, types []verifier.ObjectType) {
	w.heap = objects.NewHeap(0)
	w.heap.Hold()
	e.NewObject = func(perCPU bool) rt.Handle {
		h := rt.Register(w.heap.Maker(types, perCPU))
		w.makers = append(w.makers, h)
		return h
	}
	e.Reach = func(addr, n uint64) (ir.Region, bool) {
		g, ok := objects.Find(addr, n)
		return ir.Region(g), ok
	}
}

// Env binds the maps and the helpers for lowering.
func (w *World) Env() *lower.Env {
	e := &lower.Env{Helper: helpers.Handle, Kfunc: helpers.KfuncHandle, RingNotify: helpers.RingNotify, Kfuncs: w.kfuncs}
	for _, m := range w.maps {
		l := m.Layout()
		b := lower.MapBinding{
			Handle: m.Handle(), Values: l.Values, Stride: uint32(l.Stride), ValueSize: m.ValueSize(), MaxEntries: l.MaxEntries, PerCPUStride: l.PerCPU,
			Progs: l.ProgArray,
		}
		switch l.Kind {
		case maps.LayoutArray:
			b.Kind = ir.MapArray
		case maps.LayoutPerCPUArray:
			b.Kind = ir.MapPerCPUArray
		case maps.LayoutProgArray:
			b.Kind = ir.MapProgArray
		case maps.LayoutRing:
			b.Kind = ir.MapRing
		case maps.LayoutArrayOfMaps:
			b.Kind = ir.MapArrayOfMaps
		}
		for _, g := range m.Regions() {
			b.Memory = append(b.Memory, ir.Region{Base: g.Base, Size: g.Size, ReadOnly: g.ReadOnly, Name: g.Name})
		}
		if m.Spec().InnerMap != nil {
			b.Reach = func(addr, n uint64) (ir.Region, bool) {
				g, ok := maps.SideOf(m).InnerRegion(addr, n)
				return ir.Region(g), ok
			}
		}
		e.Maps = append(e.Maps, b)
	}
	return e
}

// Reset empties the maps and fills them with es.
func (w *World) Reset(es []progen.Entry) error {
	for i, m := range w.maps {
		if noElements(w.specs[i].Type) {
			for m.LookupAndDelete(nil, make([]byte, m.ValueSize())) == nil { // pops
			}
			continue
		}
		for {
			k, err := m.NextKeyBytes(nil)
			if err != nil {
				return err
			}
			if k == nil {
				break
			}
			if isArray(w.specs[i].Type) {
				zero := zeroValue(w.specs[i])
				for n := range w.specs[i].MaxEntries {
					if err := m.Put(n, zero); err != nil {
						return err
					}
				}
				break
			}
			if err := m.Delete(k); err != nil {
				return err
			}
		}
	}
	for _, e := range es {
		if err := w.maps[e.Map].Put(e.Key, e.Value); err != nil {
			return err
		}
	}
	return nil
}

// Run runs exe once on a copy of data. Packet programs of the socket layer see the packet behind its Ethernet header,
// as in the kernel's test runs; for programs without a packet, data is the context.
func (w *World) Run(ctx context.Context, exe rt.Executable, typ ebpf.ProgramType, data []byte) (Outcome, error) {
	if len(data) > packetMax {
		return Outcome{}, fmt.Errorf("packet of %d bytes, at most %d", len(data), packetMax)
	}
	mem := w.mem.Bytes()
	r := rt.Acquire()
	defer r.Release()
	r.Ctx, r.Env = w.mem.Addr(), &rt.Env{}
	if progtype.TakesPacket(typ) {
		w.layPacket(r, typ, data)
	} else {
		w.layContext(r, typ, data)
	}
	r0, err := exe.Exec(ctx, r)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{R0: r0, Data: bytes.Clone(mem[packetAt : packetAt+len(data)])}
	out.Maps, err = dump(w.specs, func(i int) reader { return ourMap{w.maps[i]} })
	return out, err
}

// layPacket copies a packet behind a context of its type.
func (w *World) layPacket(r *rt.Run, typ ebpf.ProgramType, data []byte) {
	mem, base := w.mem.Bytes(), w.mem.Addr()
	clear(mem[:keysAt+progtype.FlowKeysSize])
	clear(mem[packetAt-headroom:])
	copy(mem[packetAt:], data)
	p := &rt.Packet{
		Head: base + packetAt - headroom, Data: base + packetAt, Meta: base + packetAt, DataEnd: base + packetAt + uintptr(len(data)),
		End: base + packetAt + packetMax, NetOff: 14, XDP: typ == ebpf.XDP,
	}
	if typ == ebpf.SocketFilter {
		skip := uintptr(min(len(data), 14))
		p.Data, p.Meta, p.NetOff = p.Data+skip, p.Meta+skip, 0
	}
	put := binary.NativeEndian.PutUint64
	put(mem[progtype.ShadowData:], uint64(p.Data))
	put(mem[progtype.ShadowDataEnd:], uint64(p.DataEnd))
	put(mem[progtype.ShadowDataMeta:], uint64(p.Meta))
	switch {
	case progtype.HasSkb(typ):
		binary.NativeEndian.PutUint32(mem, uint32(p.DataEnd-p.Data)) // len
	case typ == ebpf.FlowDissector:
		put(mem[progtype.FlowKeysPointer:], uint64(base+keysAt))
		r.AddMem(rt.Region{Base: uint64(base + keysAt), Size: progtype.FlowKeysSize, Name: "flow keys"})
	}
	r.Packet = p
}

// layContext makes data the context: numbers of the caller, with NULL for pointers.
func (w *World) layContext(r *rt.Run, typ ebpf.ProgramType, data []byte) {
	mem := w.mem.Bytes()[:ctxMax]
	clear(mem)
	copy(mem, data)
	if progtype.InputOf(typ) != progtype.InputBytes {
		progtype.Of(typ, 0, runtime.GOARCH).ClearPointers(mem)
	}
	r.CtxLen = ctxMax
}

// RunKernel runs a program in the kernel on maps that hold es. k must be fresh: its maps are not emptied.
func RunKernel(k *kernel.Prog, p *program.Program, es []progen.Entry, data []byte) (Outcome, error) {
	for _, e := range es {
		if err := k.Map(e.Map).Update(e.Key, e.Value, 0); err != nil {
			return Outcome{}, err
		}
	}
	res, err := k.Run(kernel.RunInput{Data: data})
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{R0: uint64(res.Ret), Data: res.Data}
	if p.Type == ebpf.SocketFilter {
		out.Data = data // the kernel gives the packet back without its Ethernet header; a filter cannot write to it
	}
	out.Maps, err = dump(p.Maps, func(i int) reader { return k.Map(i) })
	return out, err
}

// reader is what dump needs of a map.
type reader interface {
	Lookup(key []byte) ([]byte, error)
	NextKey(prev []byte) ([]byte, error)
}

// ourMap is a skep map as a reader.
type ourMap struct{ m *maps.Map }

func (o ourMap) Lookup(key []byte) ([]byte, error) {
	b, err := o.m.LookupBytes(key)
	if err == nil && b == nil {
		err = ebpf.ErrKeyNotExist
	}
	return b, err
}

func (o ourMap) NextKey(prev []byte) ([]byte, error) {
	var key any
	if prev != nil {
		key = prev
	}
	k, err := o.m.NextKeyBytes(key)
	if err == nil && k == nil {
		err = ebpf.ErrKeyNotExist
	}
	return k, err
}

// noElements reports whether maps of a type have nothing here that could be listed or deleted: those without keys, those whose elements
// cannot be read, and arrays of maps, which are always empty.
func noElements(t ebpf.MapType) bool {
	switch t {
	case ebpf.Queue, ebpf.Stack, ebpf.BloomFilter, ebpf.ArrayOfMaps, ebpf.RingBuf, ebpf.UserRingbuf, ebpf.PerfEventArray, ebpf.StackTrace, ebpf.CGroupArray,
		ebpf.SockMap, ebpf.SockHash, ebpf.ReusePortSockArray, ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage:
		return true
	}
	return false
}

func isArray(t ebpf.MapType) bool { return t == ebpf.Array || t == ebpf.PerCPUArray }

// zeroValue returns what sets an element to zero: bytes, or one slice of them for each CPU.
func zeroValue(m program.Map) any {
	zero := make([]byte, m.ValueSize)
	if m.Type != ebpf.PerCPUArray && m.Type != ebpf.PerCPUHash {
		return zero
	}
	return slices.Repeat([][]byte{zero}, maps.PossibleCPUs())
}

// dump reads all maps. One run uses one CPU, so joining the bits of a per-CPU value gives that CPU's.
func dump(specs []program.Map, open func(i int) reader) ([][]progen.Entry, error) {
	all := make([][]progen.Entry, len(specs))
	for i, s := range specs {
		if noElements(s.Type) {
			continue
		}
		m := open(i)
		for key, err := m.NextKey(nil); !errors.Is(err, ebpf.ErrKeyNotExist); key, err = m.NextKey(key) {
			if err != nil {
				return nil, err
			}
			v, err := m.Lookup(key)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				continue // an empty entry of a program array or redirect map
			}
			if err != nil {
				return nil, err
			}
			joined := bytes.Clone(v[:s.ValueSize])
			for part := (int(s.ValueSize) + 7) &^ 7; len(v) > part; {
				v = v[part:]
				for j := range joined {
					joined[j] |= v[j]
				}
			}
			all[i] = append(all[i], progen.Entry{Map: i, Key: bytes.Clone(key), Value: joined})
		}
		slices.SortFunc(all[i], func(a, b progen.Entry) int { return bytes.Compare(a.Key, b.Key) })
	}
	return all, nil
}

// Diff tells how two outcomes differ, "" if they do not. With low32 only the low half of r0 counts: the kernel's test
// run returns no more.
func Diff(a, b Outcome, low32 bool) string {
	mask := ^uint64(0)
	if low32 {
		mask = 1<<32 - 1
	}
	if a.R0&mask != b.R0&mask {
		return fmt.Sprintf("r0 %#x and %#x", a.R0&mask, b.R0&mask)
	}
	if !bytes.Equal(a.Data, b.Data) {
		i := 0
		for i < len(a.Data) && i < len(b.Data) && a.Data[i] == b.Data[i] {
			i++
		}
		return fmt.Sprintf("packets of %d and %d bytes differ from byte %d", len(a.Data), len(b.Data), i)
	}
	for i := range a.Maps {
		if len(a.Maps[i]) != len(b.Maps[i]) {
			return fmt.Sprintf("map %d has %d and %d elements", i, len(a.Maps[i]), len(b.Maps[i]))
		}
		for j := range a.Maps[i] {
			x, y := a.Maps[i][j], b.Maps[i][j]
			if !bytes.Equal(x.Key, y.Key) || !bytes.Equal(x.Value, y.Value) {
				return fmt.Sprintf("map %d: %x=%x and %x=%x", i, x.Key, x.Value, y.Key, y.Value)
			}
		}
	}
	return ""
}
