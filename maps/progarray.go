package maps

import (
	"encoding/binary"
	"sync"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Program is what a program array holds. A program that is stored is held until the slot is emptied or the map is closed.
type Program interface {
	// ProgramID is the number that a lookup in the array gives.
	ProgramID() uint32
	// TailTarget returns what a tail call jumps to.
	TailTarget() *rt.Target
	// TailKind says what the programs of one array have in common (type and attach type): the first program that
	// uses the array or is stored in it fixes the array's kind, others must have the same.
	TailKind() string
	// Hold keeps the program from being freed until Unhold; it fails if the program is closed.
	Hold() error
	Unhold()
}

// progArray is a program array: entry addresses in mapped memory, which machine code jumps through, and the programs in
// Go. The map holds its programs; a program holds the arrays it uses: the cycle is broken when the array is closed from
// Go, which empties it, as the kernel does when the last file descriptor goes.
type progArray struct {
	region *offheap.Region
	arr    *rt.ProgArray
	mu     sync.Mutex
	progs  map[uint32]Program
	kind   string // what all programs of this array have in common; "" until the first
	max    uint32
}

func newProgArray(maxEntries uint32, limit uint64) (*progArray, error) {
	size, err := mulSize(limit, 8, uint64(maxEntries))
	if err != nil {
		return nil, err
	}
	r, err := offheap.Alloc(int(size))
	if err != nil {
		return nil, err
	}
	return &progArray{region: r, arr: rt.NewProgArray(memOf(r).words(int(maxEntries))), progs: map[uint32]Program{}, max: maxEntries}, nil
}

func (p *progArray) index(key []byte) (uint32, bool) {
	i := binary.NativeEndian.Uint32(key)
	return i, i < p.max
}

func (p *progArray) lookup([]byte, int) uintptr                        { return 0 }
func (p *progArray) update([]byte, []byte, uint64, int) errno.Errno    { return errno.EOPNOTSUPP }
func (p *progArray) write(key, value []byte, flags uint64) errno.Errno { return errno.EINVAL }
func (p *progArray) take([]byte, []byte) errno.Errno                   { return errno.ENOTSUPP }
func (p *progArray) nextKey(key, next []byte) errno.Errno              { return nextIndex(key, next, p.max) }
func (p *progArray) ranges() []rt.Region                               { return nil }
func (p *progArray) free() error                                       { return p.region.Free() }

// read gives the number of the stored program.
func (p *progArray) read(key, value []byte) errno.Errno {
	i, ok := p.index(key)
	if !ok {
		return errno.ENOENT
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	prog, ok := p.progs[i]
	if !ok {
		return errno.ENOENT
	}
	binary.NativeEndian.PutUint32(value, prog.ProgramID())
	return 0
}

// bind fixes the kind of programs the array can hold, or checks that it is kind already (the kernel's
// bpf_prog_map_compatible).
func (p *progArray) bind(kind string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kind == "" {
		p.kind = kind
	}
	return p.kind == kind
}

// set stores a program in slot i.
func (p *progArray) set(key []byte, prog Program, flags uint64) errno.Errno {
	if flags != 0 {
		return errno.EINVAL
	}
	i, ok := p.index(key)
	if !ok {
		return errno.E2BIG
	}
	if !p.bind(prog.TailKind()) {
		return errno.EINVAL
	}
	if prog.Hold() != nil {
		return errno.EINVAL
	}
	p.mu.Lock()
	old := p.progs[i]
	p.progs[i] = prog
	p.arr.Set(int(i), prog.TailTarget())
	p.mu.Unlock()
	unhold(old)
	return 0
}

func (p *progArray) delete(key []byte) errno.Errno {
	i, ok := p.index(key)
	if !ok {
		return errno.E2BIG
	}
	p.mu.Lock()
	old, ok := p.progs[i]
	delete(p.progs, i)
	p.arr.Set(int(i), nil)
	p.mu.Unlock()
	if !ok {
		return errno.ENOENT
	}
	unhold(old)
	return 0
}

// clear empties the array.
func (p *progArray) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, prog := range p.progs {
		p.arr.Set(int(i), nil)
		unhold(prog)
	}
	clear(p.progs)
}

// unhold gives a program back. Programs that are running now may have read its entry: it is the program's business to
// free its code only after they are through.
func unhold(p Program) {
	if p != nil {
		p.Unhold()
	}
}
