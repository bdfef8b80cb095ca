package lower_test

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

const recordProgram = `
.map ring ringbuf 0 0 4096
	r1 = ring ll
	r2 = 8
	r3 = 0
	call 131
	if r0 == 0 goto out
	r1 = r0
	r2 = 0
	call 132
	r0 = 0
out:
	exit
`

// TestRecordsInline: records are reserved and submitted without a call where the proof says of which ring they are; else by host functions
// alone.
func TestRecordsInline(t *testing.T) {
	notify := func() rt.Handle { return 7 }
	for name, c := range map[string]struct {
		change          func(p *program.Program, res *verifier.Result, e *lower.Env)
		reserve, submit bool
	}{
		"known":         {func(*program.Program, *verifier.Result, *lower.Env) {}, true, true},
		"several rings": {func(_ *program.Program, res *verifier.Result, _ *lower.Env) { res.Insns[4].Map = -1 }, false, true},
		"in a map":      {func(_ *program.Program, res *verifier.Result, _ *lower.Env) { res.Insns[4].InMap = 1 }, false, true},
		"no notify":     {func(_ *program.Program, _ *verifier.Result, e *lower.Env) { e.RingNotify = nil }, false, false},
		"exact":         {func(_ *program.Program, _ *verifier.Result, e *lower.Env) { e.Exact = true }, false, false},
		"rings in a map": {func(p *program.Program, _ *verifier.Result, _ *lower.Env) {
			p.Maps[0].Inner = &program.Map{Type: ebpf.RingBuf}
		}, true, false},
	} {
		p := parse(t, recordProgram)
		res, e := proof(p), env(p)
		e.RingNotify = notify
		e.Maps[0].Kind, e.Maps[0].Values = ir.MapRing, mapValues
		for pc, in := range p.Insns {
			if in.IsHelperCall() && in.Imm == 131 {
				res.Insns[pc].Map = 0
			}
		}
		c.change(p, res, e)
		got, err := lower.Lower(p, res, e)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has := func(op ir.Op) bool {
			return slices.ContainsFunc(got.Insns, func(in ir.Insn) bool { return in.Op == op })
		}
		if has(ir.AtomicCmpXchg) != c.reserve || has(ir.AtomicXchg) != c.submit {
			t.Errorf("%s: reserved without a call: %v, submitted: %v\n%s", name, has(ir.AtomicCmpXchg), has(ir.AtomicXchg), show(got))
		}
		for _, in := range got.Insns {
			if in.Flag&ir.FlagOwn != 0 && in.Flag&ir.FlagInside == 0 {
				t.Errorf("%s: %v can be taken for the program's", name, in)
			}
		}
	}
	p := parse(t, recordProgram)
	e := env(p)
	e.RingNotify = notify
	e.Maps[0].Kind, e.Maps[0].Values = ir.MapRing, mapValues
	got, err := lower.Lower(p, nil, e)
	if err != nil || slices.ContainsFunc(got.Insns, func(in ir.Insn) bool { return in.Flag&ir.FlagOwn != 0 }) {
		t.Errorf("without proof: %v\n%s", err, show(got))
	}
}
