// Package timercache is an example: a cache whose logic, the time to live of its entries included, is a BPF program. Timers of the program
// take entries out, on goroutines of skep's; a test steps the clock that they go by.
package timercache

import (
	"bytes"
	_ "embed"
	"fmt"
	"syscall"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

//go:embed bpf/timercache.o
var object []byte

// request is struct request of bpf/timercache.c.
type request struct {
	Key, Value, TTL, Found uint64
}

// Cache keeps numbers by numbers. Its methods may be called by many goroutines at a time.
type Cache struct {
	objs struct {
		Put     *skep.Program  `ebpf:"put"`
		Get     *skep.Program  `ebpf:"get"`
		Entries *skep.Map      `ebpf:"entries"`
		Expired *skep.Variable `ebpf:"expired"`
	}
}

// New makes a cache that goes by a clock; nil means the host's.
func New(clock skep.Clock) (*Cache, error) {
	spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	c := new(Cache)
	if err := skep.LoadAndAssign(spec, &c.objs, skep.Options{Env: skep.Env{Clock: clock}}); err != nil {
		return nil, err
	}
	return c, nil
}

// Close frees the cache. What was to expire does not any more.
func (c *Cache) Close() {
	_ = c.objs.Put.Close()
	_ = c.objs.Get.Close()
	_ = c.objs.Entries.Close()
}

// Put keeps a value under a key for some time, in place of the one that is there.
func (c *Cache) Put(key, value uint64, ttl time.Duration) error {
	r := request{Key: key, Value: value, TTL: uint64(ttl)}
	ret, err := c.objs.Put.Run(&ebpf.RunOptions{Context: r})
	switch {
	case err != nil:
		return err
	case ret != 0:
		return fmt.Errorf("put %d: %w", key, syscall.Errno(-int32(ret)))
	}
	return nil
}

// Get returns the value of a key, and whether there is one.
func (c *Cache) Get(key uint64) (value uint64, ok bool, err error) {
	var out request
	_, err = c.objs.Get.Run(&ebpf.RunOptions{Context: request{Key: key}, ContextOut: &out})
	return out.Value, out.Found != 0, err
}

// Expired returns how many entries have gone because their time was over.
func (c *Cache) Expired() (n uint64, err error) {
	err = c.objs.Expired.Get(&n)
	return n, err
}
