package verifier_test

import (
	"testing"

	"github.com/skep-bpf/skep/verifier"
)

// TestWhereMapsWereFound: the facts say of a lookup in which map of maps its map was found, if that is the same on all paths: code is made
// from it.
func TestWhereMapsWereFound(t *testing.T) {
	const head = `
.type tc
.map plain array 4 8 1
.map wide array 4 16 1
.map a array_of_maps 4 4 1 inner=plain
.map b array_of_maps 4 4 1 inner=wide
`
	// find leaves the map that is in r1's map at key 0 in r0, or goes to out.
	const find = `
r2 = r10
r2 += -4
call 1
if r0 == 0 goto out
r1 = r0
`
	const use = `
use: r2 = r10
r2 += -4
call 1
out: r0 = 0
exit
`
	const start = "*(u32 *)(r10 - 4) = 0\n r6 = *(u32 *)(r1 + 8)\n"
	for _, c := range []struct {
		name, src string
		want      int32
	}{
		{"one", start + "r1 = map[a] ll\n" + find + use, 3},
		{"two paths, one map", start + "r1 = map[b] ll\nif r6 == 0 goto n\nr1 = map[b] ll\nn:" + find + use, 4},
		{"either", start + "r1 = map[a] ll\nif r6 == 0 goto n\nr1 = map[b] ll\nn:" + find + use, 0},
		{"in a map or not", start + "if r6 == 0 goto n\nr1 = map[plain] ll\ngoto use\nn: r1 = map[a] ll\n" + find + use, 0},
		{"not in a map or in one", start + "if r6 != 0 goto n\nr1 = map[plain] ll\ngoto use\nn: r1 = map[a] ll\n" + find + use, 0},
		{"none", start + "r1 = map[plain] ll\n" + use, 0},
	} {
		p := source(t, head+c.src)
		res, err := verifier.Verify(p, options(0))
		if err != nil {
			t.Errorf("%s: %+v", c.name, err)
			continue
		}
		last := -1
		for pc, in := range p.Insns {
			if in.IsHelperCall() && in.Imm == 1 {
				last = pc
			}
		}
		if got := res.Insns[last].InMap; got != c.want {
			t.Errorf("%s: found in %d, want %d", c.name, got, c.want)
		}
	}
}
