package liveupgrade_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skep-bpf/skep/examples/liveupgrade"
)

// packet is an Ethernet frame of a protocol.
func packet(proto uint16) []byte {
	p := make([]byte, 60)
	p[12], p[13] = byte(proto>>8), byte(proto)
	return p
}

func TestVersions(t *testing.T) {
	f, err := liveupgrade.New(1)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer f.Close()
	check := func(proto uint16, want uint32) {
		t.Helper()
		if got, err := f.Packet(packet(proto)); err != nil || got != want {
			t.Errorf("protocol %#x: %d, %v; want %d", proto, got, err, want)
		}
	}
	check(0x0800, liveupgrade.Pass)
	check(0x86dd, liveupgrade.Pass)
	if err := f.Upgrade(2); err != nil {
		t.Fatal(err)
	}
	check(0x0800, liveupgrade.Pass)
	check(0x86dd, liveupgrade.Drop)
	if c, err := f.Counters(); err != nil || c != (liveupgrade.Counters{Packets: 4, Bytes: 240, Dropped: 1}) {
		t.Errorf("%+v, %v", c, err)
	}
	if err := f.Upgrade(3); err == nil {
		t.Error("there is no version 3")
	}
	check(0x86dd, liveupgrade.Drop) // and the second stays
}

// TestUnderTraffic upgrades back and forth while goroutines send: each packet gets the verdict of one version or the other, and all are
// counted.
func TestUnderTraffic(t *testing.T) {
	f, err := liveupgrade.New(1)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer f.Close()
	const senders, each, upgrades = 4, 5000, 40
	var dropped atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				switch got, err := f.Packet(packet(0x86dd)); {
				case err != nil:
					t.Error(err)
					return
				case got == liveupgrade.Drop:
					dropped.Add(1)
				case got != liveupgrade.Pass:
					t.Errorf("a packet met no version: %d", got)
					return
				}
			}
		})
	}
	for i := range upgrades {
		if err := f.Upgrade(1 + (i+1)%2); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	c, err := f.Counters()
	if err != nil || c.Packets != senders*each || c.Dropped != uint64(dropped.Load()) {
		t.Errorf("%+v, %v; want %d packets, %d dropped", c, err, senders*each, dropped.Load())
	}
}
