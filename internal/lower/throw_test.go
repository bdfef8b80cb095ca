package lower_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/rt"
)

// TestThrow: what can throw is left behind each call of it; the main function takes the number to the exception callback. What cannot
// throw has nothing of it.
func TestThrow(t *testing.T) {
	p := parse(t, `
.kfunc void bpf_throw(long cookie)
	call f
	call calm
	if r0 == 0 goto out
	r1 = 9
	call bpf_throw
out:
	exit
.func f args=1
	r6 = r1
	call g
	r0 += r6
	exit
.func g args=1
	if r1 == 0 goto out2
	call bpf_throw
out2:
	r0 = 0
	exit
.func calm args=0
	r0 = 3
	exit
.func caught args=1
	r0 = r1
	exit
`)
	res := proof(p)
	res.ExceptionCallback = 4
	e := env(p)
	e.Kfuncs = nil // it needs no binding
	got, err := lower.Lower(p, res, e)
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: call 1
		1: if_thrown 8
		2: call 3
		3: if64 r0 cond0 0x0 jmp 7
		4: mov64 r1, 0x9
		5: mov64 r0, r1
		6: jmp 9
		7: exit
		8: set_thrown 0
		9: mov64 r1, r0
		10: call 4
		11: exit
		func 1 stack=0 in=0 out=0
		12: mov64 r6, r1
		13: call 2
		14: if_thrown 17
		15: add64 r0, r6
		16: exit
		17: exit
		func 2 stack=0 in=0 out=0
		18: if64 r1 cond0 0x0 jmp 22
		19: mov64 r0, r1
		20: set_thrown 1
		21: exit
		22: mov64 r0, 0x0
		23: exit
		func 3 stack=0 in=0 out=0
		24: mov64 r0, 0x3
		25: exit
		func 4 stack=0 in=0 out=0
		26: mov64 r0, r1
		27: exit`)
}

// throwInLoop throws the round in the fourth round of a loop, out of a function; a proof has no such callbacks.
const throwInLoop = `
.kfunc void bpf_throw(long cookie)
	call f
	r0 = 0
	exit
.func f args=1
	r6 = 1
	r1 = 10
	r2 = round ll
	r3 = 0
	r4 = 0
	call 181
	r0 = r6
	exit
.func round args=2
	if r1 == 3 goto out
	r0 = 0
	exit
out:
	r1 += 1000
	call bpf_throw
	r0 = 0
	exit
`

// TestThrowOutOfLoop: a loop in the place of a call with a callback is left as any function, whether the callback is known or found by
// its address.
func TestThrowOutOfLoop(t *testing.T) {
	for _, callback := range []int32{2, -1} {
		p := parse(t, throwInLoop)
		res := proof(p)
		res.Funcs[2].IsCallback = true
		for pc, in := range p.Insns {
			if in.IsHelperCall() {
				res.Insns[pc].Callback = callback
			}
		}
		got, err := lower.Lower(p, res, env(p))
		if err != nil {
			t.Fatal(err)
		}
		c, err := interp.New(got, interp.Options{Budget: 1000})
		if err != nil {
			t.Fatal(err)
		}
		r := rt.Acquire()
		defer r.Release()
		if ret, err := c.Exec(context.Background(), r); ret != 1003 || err != nil {
			t.Errorf("callback %d: %d, %v\n%s", callback, ret, err, show(got))
		}
	}
}

// TestThrowRefused: what a proof excludes, and what nobody knows without one.
func TestThrowRefused(t *testing.T) {
	p := parse(t, throwInLoop)
	e := env(p)
	e.Kfuncs[0] = lower.KfuncBinding{}
	if _, err := lower.Lower(p, nil, e); !errors.Is(err, lower.ErrNoRuntime) || !strings.Contains(err.Error(), "bpf_throw") {
		t.Errorf("without proof: %v", err)
	}
	res := proof(p)
	res.ExceptionCallback = 2
	if _, err := lower.Lower(p, res, e); err == nil || !strings.Contains(err.Error(), "the exception callback can throw") {
		t.Error(err)
	}
	p = parse(t, strings.Replace(throwInLoop, "call 181", "call 170", 1))
	res = proof(p)
	for pc := range res.Insns {
		res.Insns[pc].Callback = 2
	}
	e.SetCallback = func() rt.Handle { return 1 }
	if _, err := lower.Lower(p, res, e); err == nil || !strings.Contains(err.Error(), "function round runs on its own, and can throw") {
		t.Error(err)
	}
}
