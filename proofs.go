package skep

import (
	"reflect"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// Proofs keeps the results of verifications, so that a program which is loaded again is not verified again: tests load the same
// collection for each case, to have maps of its own. The zero value is empty and ready; it may be used by many loads at a time.
//
// A proof is used again only for the same instructions, maps (constants included), types, kfuncs and options; whatever differs is
// verified. Rejections are not kept. Loads with a LogLevel verify each time. Types of a spec may not be changed once it was loaded.
type Proofs struct {
	mu   sync.Mutex
	m    map[string][]proof // by program, the newest last
	hits int
}

// proof is a program that was accepted, under which rules, and what was found out about it.
type proof struct {
	prog  *program.Program
	rules rules
	res   *verifier.Result
}

// maxProofs is how many proofs are kept for the programs of one name: as many variants as a test may load alternately.
const maxProofs = 16

// rules are what a verdict depends on beside the program. TestProofsKnowAll has every field of Options in a list.
type rules struct {
	arch            string
	kernel          *btf.Spec // nil: the host's
	limits          Limits
	globalStackArgs bool
	without         verifier.Caps
	target          verifier.Target
	jit             verifier.JITSupport
}

func (o *Options) rules() rules {
	return rules{o.arch(), o.KernelBTF, o.Limits, o.GlobalStackArgs, o.Without, o.Target, o.JIT}
}

// verify is Options.verify that looks for a proof first, and keeps a new one. p may be nil.
func (p *Proofs) verify(o *Options, prog *program.Program) (*verifier.Result, error) {
	if p == nil || o.LogLevel != ebpf.LogLevel(0) {
		return o.verify(prog)
	}
	rules := o.rules()
	if res := p.find(prog, rules); res != nil {
		return res, nil
	}
	res, err := o.verify(prog)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[string][]proof{}
	}
	kept := append(p.m[prog.Name], proof{withoutSources(prog), rules, res})
	p.m[prog.Name] = kept[max(len(kept)-maxProofs, 0):]
	return res, nil
}

// find returns the proof of an equal program under the same rules, nil if there is none.
func (p *Proofs) find(prog *program.Program, r rules) *verifier.Result {
	p.mu.Lock()
	kept := slices.Clone(p.m[prog.Name])
	p.mu.Unlock()
	for _, k := range kept {
		if k.rules == r && sameProgram(k.prog, prog) {
			p.mu.Lock()
			p.hits++
			p.mu.Unlock()
			return k.res
		}
	}
	return nil
}

// withoutSources copies a program without its hold on maps, which a verdict does not depend on: they may be large, and closed.
func withoutSources(p *program.Program) *program.Program {
	q := *p
	q.Maps, q.Kfuncs = slices.Clone(p.Maps), slices.Clone(p.Kfuncs)
	for i := range q.Maps {
		q.Maps[i].Source = nil
	}
	return &q
}

// sameProgram reports whether the verifier cannot tell two programs apart. Types of objects are the same only if they are the same
// value: to compare them by what is in them could cost more than to verify. Line records do not count, they are for messages.
func sameProgram(a, b *program.Program) bool {
	return a.Name == b.Name && a.Type == b.Type && a.AttachType == b.AttachType && a.AttachTo == b.AttachTo && a.Section == b.Section &&
		a.Flags == b.Flags && a.License == b.License && a.Types == b.Types && a.OldDialect == b.OldDialect && a.Hook == b.Hook &&
		slices.Equal(a.Insns, b.Insns) && slices.Equal(a.Funcs, b.Funcs) && slices.Equal(a.Ksyms, b.Ksyms) &&
		slices.EqualFunc(a.Kfuncs, b.Kfuncs, sameKfunc) && slices.EqualFunc(a.Maps, b.Maps, sameMap)
}

// sameKfunc compares kfuncs; a prototype may have been completed for each load anew.
func sameKfunc(a, b program.Kfunc) bool {
	sameType := a.Type == b.Type || a.Type != nil && b.Type != nil && reflect.DeepEqual(a.Type, b.Type)
	a.Type, b.Type = nil, nil
	return sameType && a == b
}

func sameMap(a, b program.Map) bool {
	if (a.Inner == nil) != (b.Inner == nil) || a.Inner != nil && !sameMap(*a.Inner, *b.Inner) || string(a.Contents) != string(b.Contents) {
		return false
	}
	return a.Name == b.Name && a.Type == b.Type && a.KeySize == b.KeySize && a.ValueSize == b.ValueSize && a.MaxEntries == b.MaxEntries &&
		a.Flags == b.Flags && a.Extra == b.Extra && a.Frozen == b.Frozen && a.Key == b.Key && a.Value == b.Value && a.Types == b.Types && a.Bound == b.Bound
}
