package skep_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// throwRun is a run of a program of testdata/exceptions.c, on a packet of so many bytes with a mark.
type throwRun struct {
	program   string
	len, mark uint32
	want      uint32
}

// runs on 64 bytes are in the fixture itself; here the same programs throw where they did not there, and the other way round.
var throwRuns = []throwRun{
	{"throws", 101, 0, 101},
	{"throws", 100, 0, 100},
	{"throws_to_callback", 150, 0, 301},
	{"throws_to_other", 150, 0, 1},
	{"throw_in_main", 64, 1, 1},
	{"throw_in_main_to_callback", 64, 1, 64},
	{"throw_in_main_to_callback", 200, 1, 401},
	{"deep_returns", 64, 0, 1602},
	{"deep_returns", 140, 0, 106}, // 96 + 10
	{"deep_throws", 64, 0, 104},
	{"deep_throws_to_callback", 64, 0, 209},
	{"void_throws", 64, 7, 7},
	{"throw_after_loop", 64, 0, 4033},
	{"throw_from_many", 64, 0, 2474},
	{"throw_from_many_to_callback", 64, 0, 4949},
	{"throw_after_many", 64, 0, 650},
	{"throw_after_many", 64, 200, 650 + 12*200}, // from the function itself
	{"throw_through_many", 64, 0, 2546},
	{"throw_through_many", 64, 200, 201 + 139 + 8*164 + 302 + 12*201}, // in the first of two calls
	{"many_return", 64, 0, 1044},
	{"tail_calls", 64, 0, 33},
	{"tail_calls", 64, 9, 1},
	{"tail_calls_deep", 64, 0, 1077},
}

// throwPrograms are the programs of throwRuns, and those that they tail-call.
func throwPrograms() []string {
	names := []string{"target", "target_in_main"}
	for _, r := range throwRuns {
		names = append(names, r.program)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func throwOptions(r throwRun) *ebpf.RunOptions {
	skb := make([]byte, 192)
	binary.LittleEndian.PutUint32(skb[8:], r.mark)
	return &ebpf.RunOptions{Data: make([]byte, r.len), Context: skb}
}

// TestThrows: exceptions thrown from the main function, from below it, from and after calls of many arguments, behind loops and tail
// calls. Runs that throw and runs that do not take turns, so that one would see what another left.
func TestThrows(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "exceptions.o", skep.Options{Engine: e}, throwPrograms()...)
		for range 3 {
			for _, r := range throwRuns {
				if got, err := c.Programs[r.program].Run(throwOptions(r)); got != r.want || err != nil {
					t.Errorf("%+v: %d, %v", r, got, err)
				}
			}
		}
	})
}

// TestThrowIsKnown: nobody else's function can stand for bpf_throw.
func TestThrowIsKnown(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("bpf_throw", func(uint64) {}); err == nil || !strings.Contains(err.Error(), "every program has it") {
		t.Error(err)
	}
}
