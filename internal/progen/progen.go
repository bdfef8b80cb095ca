// Package progen makes random BPF programs for differential tests: from a seed, always the same program. Programs are
// mostly valid: the generator knows which registers and stack bytes hold numbers, bounds what it uses as an offset, and
// checks for null and for the end of the packet. What a program computes depends on nothing but its packet and its
// maps, so that every engine must give the same r0, packet and map contents.
//
// It knows the instruction set and nothing of verification or machines.
package progen

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Config says what to make.
type Config struct {
	Type       ebpf.ProgramType // XDP, SchedCLS or SocketFilter
	Statements int              // of the main function, nested ones not counted
	Functions  int              // besides the main function
	MaxArgs    int              // of a function; the kernel takes up to 5, skep 12
	Maps       bool             // use maps by lookup, update and delete
	MoreMaps   bool             // and LRU hashes, tries and queues
	Iterators  bool             // loops over numbers by the kernel's iterator
	Throws     bool             // exceptions; not with Iterators, which hold something
	Callback   bool             // and an exception callback
}

// ThrowSeeds is where the seeds of programs with exceptions begin.
const ThrowSeeds = 1 << 40

// ConfigFor returns the configuration that goes with a seed: types, sizes and features alternate. maxArgs is 5 for
// programs that the kernel is to run, up to 12 otherwise.
func ConfigFor(seed uint64, maxArgs int) Config {
	r := rand.New(rand.NewPCG(seed, 0xc0f16))
	c := Config{
		Type:       []ebpf.ProgramType{ebpf.XDP, ebpf.SchedCLS, ebpf.SocketFilter}[r.IntN(3)],
		Statements: 4 + r.IntN(28),
		MaxArgs:    maxArgs,
		Maps:       r.IntN(4) != 0,
	}
	if r.IntN(2) == 0 {
		c.Functions = 1 + r.IntN(4)
	}
	// the programs of small seeds stay what they were before there were iterators: some have found mistakes
	c.MoreMaps = seed >= 1<<20 && rand.New(rand.NewPCG(seed, 0x3a95)).IntN(2) == 0
	c.Iterators = seed >= 1<<20 && rand.New(rand.NewPCG(seed, 0x17e7)).IntN(3) == 0
	if seed >= ThrowSeeds {
		c.Throws, c.Iterators = true, false
		if c.Type == ebpf.SocketFilter { // they have no bpf_throw
			c.Type = ebpf.SchedCLS
		}
		c.Functions++
		c.Callback = rand.New(rand.NewPCG(seed, 0x7409)).IntN(2) == 0
	}
	return c
}

// The maps of every program, by index.
const (
	MapOut   = iota // an array of one value, reached by its address: holds what the program computed
	MapArray        // an array
	MapHash
	MapPerCPU // a per-CPU array
	MapLRU    // an LRU hash
	MapTrie   // an LPM trie
	MapQueue
)

// OutSize is the size of the value of MapOut in bytes.
const OutSize = 128

func maps() []program.Map {
	return []program.Map{
		MapOut:    {Name: "out", Type: ebpf.Array, KeySize: 4, ValueSize: OutSize, MaxEntries: 1},
		MapArray:  {Name: "arr", Type: ebpf.Array, KeySize: 4, ValueSize: 48, MaxEntries: 8},
		MapHash:   {Name: "hash", Type: ebpf.Hash, KeySize: 8, ValueSize: 24, MaxEntries: 16},
		MapPerCPU: {Name: "percpu", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 16, MaxEntries: 4},
		MapLRU:    {Name: "lru", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 24, MaxEntries: 4000}, // far from full
		MapTrie:   {Name: "trie", Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 16, MaxEntries: 8, Flags: 1},
		MapQueue:  {Name: "queue", Type: ebpf.Queue, ValueSize: 8, MaxEntries: 3},
	}
}

// Entry is an element that a map holds before a run.
type Entry struct {
	Map        int
	Key, Value []byte
}

// Prefill returns the elements that the maps should hold before a run of the program of a seed: some of the keys that
// programs look up.
func Prefill(seed uint64) []Entry {
	r := rand.New(rand.NewPCG(seed, 0xf111))
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	ms := maps()
	var es []Entry
	for k := range ms[MapArray].MaxEntries {
		es = append(es, Entry{MapArray, []byte{byte(k), 0, 0, 0}, bytes(int(ms[MapArray].ValueSize))})
	}
	for k := range 6 {
		es = append(es, Entry{MapHash, []byte{byte(k), 0, 0, 0, 0, 0, 0, 0}, bytes(int(ms[MapHash].ValueSize))})
	}
	return es
}

// Packet returns the packet for the program of a seed: between 14 and 255 bytes, small numbers and edges among them.
func Packet(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0x9ac7e7))
	b := make([]byte, 14+r.IntN(242))
	for i := range b {
		switch r.IntN(4) {
		case 0:
			b[i] = byte(r.IntN(8))
		case 1:
			b[i] = []byte{0x7f, 0x80, 0xff}[r.IntN(3)]
		default:
			b[i] = byte(r.Uint32())
		}
	}
	// An EtherType that no network stack parses further.
	copy(b[12:], []byte{0x88, 0xb5})
	return b
}

// New makes the program of a seed.
func New(seed uint64, c Config) *program.Program {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x9609e4)), c: c, u64: &btf.Int{Name: "unsigned long long", Size: 8}}
	p := &program.Program{
		Name: fmt.Sprintf("progen_%d", seed), Type: c.Type, License: "GPL", Maps: maps(),
	}
	if c.Iterators {
		p.Kfuncs = iteratorKfuncs()
	}
	if c.Throws {
		g.addThrow(p)
	}
	g.prototypes()
	called := map[int]bool{0: true}
	for i := range g.protos {
		if !called[i] {
			continue // the kernel sees functions by their calls
		}
		f := g.function(i)
		start := len(p.Insns)
		for _, call := range f.calls {
			call.at += start
			called[call.callee] = true
			g.calls = append(g.calls, call)
		}
		p.Insns = append(p.Insns, f.insns...)
		g.protos[i].start = start
		p.Funcs = append(p.Funcs, program.Func{
			Name: g.protos[i].name, Start: start, End: len(p.Insns), Type: g.btf(i), Global: g.protos[i].global,
		})
	}
	if c.Callback {
		g.addCallback(p)
	}
	for _, call := range g.calls {
		p.Insns[call.at].Imm = int32(g.protos[call.callee].start - call.at - 1)
	}
	return p
}

type generator struct {
	r      *rand.Rand
	c      Config
	protos []proto
	calls  []callSite
	u64    btf.Type
	throw  int32 // index of bpf_throw among the kfuncs
}

// proto is the shape of a function: function 0 is the main one, a function calls only those after it.
type proto struct {
	name   string
	args   int  // numbers of 64 bits
	ptr    bool // the first argument is the address of 16 bytes
	global bool
	start  int
}

type callSite struct{ at, callee int }

func (g *generator) prototypes() {
	g.protos = []proto{{name: "main", args: 1, global: true}}
	for i := range g.c.Functions {
		p := proto{name: fmt.Sprintf("f%d", i+1), args: g.r.IntN(min(g.c.MaxArgs, 5) + 1)}
		if g.c.MaxArgs > 5 && g.r.IntN(2) == 0 {
			p.args = 6 + g.r.IntN(g.c.MaxArgs-5)
		}
		// Global functions of more than five parameters do not exist.
		p.global = p.args <= 5 && g.r.IntN(3) == 0
		p.ptr = p.args > 0 && g.r.IntN(3) == 0
		g.protos = append(g.protos, p)
	}
}

func (g *generator) btf(i int) *btf.Func {
	p := &g.protos[i]
	t := &btf.FuncProto{Return: g.u64}
	if i == 0 {
		t.Return = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
		name := "__sk_buff"
		if g.c.Type == ebpf.XDP {
			name = "xdp_md"
		}
		ctx := &btf.Pointer{Target: &btf.Struct{Name: name, Size: 4, Members: []btf.Member{
			{Name: "len", Type: &btf.Int{Name: "unsigned int", Size: 4}},
		}}}
		t.Params = []btf.FuncParam{{Name: "ctx", Type: ctx}}
	} else {
		for n := range p.args {
			param := btf.FuncParam{Name: fmt.Sprintf("a%d", n+1), Type: g.u64}
			if n == 0 && p.ptr {
				param.Type = &btf.Pointer{Target: &btf.Struct{Name: "pair", Size: 16, Members: []btf.Member{
					{Name: "a", Type: g.u64}, {Name: "b", Type: g.u64, Offset: 64},
				}}}
			}
			t.Params = append(t.Params, param)
		}
	}
	linkage := btf.StaticFunc
	if p.global {
		linkage = btf.GlobalFunc
	}
	return &btf.Func{Name: p.name, Linkage: linkage, Type: t}
}

// Mutate returns a copy of p with one to three instructions changed at random: verifiers must agree on it too, whether
// it is still valid or not.
func Mutate(p *program.Program, seed uint64) *program.Program {
	r := rand.New(rand.NewPCG(seed, 0x307a7e))
	m := *p
	m.Insns = slices.Clone(p.Insns)
	for range 1 + r.IntN(3) {
		in := &m.Insns[r.IntN(len(m.Insns))]
		switch r.IntN(9) {
		case 0:
			in.Dst = isa.Reg(r.IntN(11))
		case 1:
			in.Src = isa.Reg(r.IntN(11))
		case 2:
			in.Imm = immediate(r)
		case 3:
			in.Off += int16(r.IntN(17)) - 8
		case 4:
			in.Op ^= 1 << r.IntN(8)
		case 5: // another operation of the same class
			in.Op = in.Op&0x0f | uint8(r.IntN(16))<<4
		case 6: // another width
			in.Op = in.Op&^0x18 | uint8(r.IntN(4))<<3
		case 7:
			*in = m.Insns[r.IntN(len(m.Insns))]
		case 8:
			*in = isa.Insn{Op: isa.ClassJMP} // a jump to the next instruction: the work is left out
		}
	}
	return &m
}
