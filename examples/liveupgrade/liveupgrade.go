// Package liveupgrade is an example: a packet filter whose program is replaced while packets go through it. None is lost, none meets half of
// an upgrade, and the new version goes on with the old one's numbers.
package liveupgrade

import (
	"bytes"
	_ "embed"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

//go:embed bpf/liveupgrade.o
var object []byte

// What the filter says of a packet.
const (
	Pass = 2 // XDP_PASS
	Drop = 1 // XDP_DROP
)

// Filter is the filter. Its methods may be called by many goroutines at a time.
type Filter struct {
	coll *skep.Collection
}

// Counters are numbers of packets since the filter was made, whatever its versions.
type Counters struct {
	Packets, Bytes, Dropped uint64
}

// New makes a filter of one version, 1 or 2.
func New(version int) (*Filter, error) {
	coll, err := load(nil)
	if err != nil {
		return nil, err
	}
	f := &Filter{coll}
	if err := f.install(coll, version); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// load loads the object anew, with the maps of a collection that is there.
func load(shared map[string]*skep.Map) (*skep.Collection, error) {
	spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	return skep.NewCollectionWithOptions(spec, skep.Options{MapReplacements: shared})
}

// install makes a version of a collection the one that packets meet from now on: one store, which the tail call reads. The version before
// stays until the runs in it have ended.
func (f *Filter) install(c *skep.Collection, version int) error {
	p := c.Programs[fmt.Sprintf("version%d", version)]
	if p == nil {
		return fmt.Errorf("there is no version %d", version)
	}
	return f.coll.Maps["current"].Put(uint32(0), p)
}

// Upgrade loads a version and puts it in place of the one that is there. It may be called while packets go through.
func (f *Filter) Upgrade(version int) error {
	c, err := load(map[string]*skep.Map{"current": f.coll.Maps["current"], "state": f.coll.Maps["state"]})
	if err != nil {
		return err
	}
	defer c.Close() // the array holds the program
	return f.install(c, version)
}

// Packet asks the filter about a packet.
func (f *Filter) Packet(packet []byte) (verdict uint32, err error) {
	return f.coll.Programs["dispatch"].Run(&ebpf.RunOptions{Data: packet})
}

// Counters sums the numbers of all processors.
func (f *Filter) Counters() (sum Counters, err error) {
	var all []Counters
	err = f.coll.Maps["state"].Lookup(uint32(0), &all)
	for _, c := range all {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		sum.Dropped += c.Dropped
	}
	return sum, err
}

// Close frees the filter.
func (f *Filter) Close() { f.coll.Close() }
