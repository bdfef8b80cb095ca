package rt

import (
	"slices"
	"testing"

	"github.com/skep-bpf/skep/internal/abi"
)

// TestHeld: what a run holds is given back where the run ends without doing so, and once; whoever holds more than there is room for is
// stopped.
func TestHeld(t *testing.T) {
	was := drops
	defer func() { drops = was }()
	var dropped []uint64
	for k := range drops {
		OnDrop(HeldKind(k), func(addr uint64) { dropped = append(dropped, addr<<8|uint64(k)) })
	}
	expect := func(want ...uint64) {
		t.Helper()
		if !slices.Equal(dropped, want) {
			t.Errorf("dropped %x, want %x", dropped, want)
		}
		dropped = nil
	}
	r := Acquire()
	var list HeldList
	r.HoldIn(&list)
	for i := range uint64(4) {
		r.Hold(Held{Addr: 10 + i, Kind: HeldKind(i % 3)})
	}
	r.GiveBack(11) // in the middle
	r.GiveBack(13) // the last
	r.GiveBack(99) // nothing
	r.HoldIn(&list)
	expect()
	r.HoldIn(new(HeldList))
	expect(12<<8|2, 10<<8) // the last first: a lock before the object that it lies in
	for i := range uint64(abi.HeldMax) {
		r.Hold(Held{Addr: i})
	}
	if expect(); r.Err != nil {
		t.Error(r.Err)
	}
	r.Hold(Held{Addr: 7777, Kind: HeldLock})
	if expect(7777<<8 | 1); r.Err == nil {
		t.Error("too much is held, and no error")
	}
	r.Release()
	if len(dropped) != abi.HeldMax {
		t.Errorf("%d things given back", len(dropped))
	}
	dropped = nil
	r = Acquire()
	r.Release()
	expect()
}
