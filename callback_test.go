package skep_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// TestStopCallbacks: rounds of callbacks that go on longer than anybody waits end with their context. (What callbacks compute is
// in testdata/callbacks.c.)
func TestStopCallbacks(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p := load(t, "callbacks.o", skep.Options{Engine: e}, "loop_long").Programs["loop_long"]
		within(t, "the run", func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			skb := make([]byte, 192)
			binary.LittleEndian.PutUint32(skb[8:], 8<<20) // mark: the number of rounds
			if _, err := p.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64), Context: skb}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	})
}
