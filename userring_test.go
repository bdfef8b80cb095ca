//go:build linux

package skep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/ringbuf"
)

// kernelWriter puts records into a user ring buffer of the kernel.
type kernelWriter struct {
	cons, prod []byte // pages of positions; behind the producer's the data, twice
	size       uint64
}

func newKernelWriter(t *testing.T, m *ebpf.Map) *kernelWriter {
	t.Helper()
	page, size := os.Getpagesize(), int(m.MaxEntries())
	cons, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	prod, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(cons); unix.Munmap(prod) })
	return &kernelWriter{cons, prod, uint64(size)}
}

func (w *kernelWriter) Write(p []byte) error {
	pos, taken := binary.NativeEndian.Uint64(w.prod), binary.NativeEndian.Uint64(w.cons)
	n := uint64(len(p)+8+7) &^ 7
	if n > w.size-(pos-taken) {
		return ringbuf.ErrNoRoom
	}
	rec := w.prod[uint64(os.Getpagesize())+pos%w.size:]
	copy(rec[8:], p)
	binary.NativeEndian.PutUint32(rec, uint32(len(p)))
	binary.NativeEndian.PutUint64(w.prod, pos+n)
	return nil
}

// userRingRun is what one program did with the records that came in.
type userRingRun struct {
	full []bool // whether a record found no room
	rets []uint32
	out  [][]byte
}

// runUserRing writes records of many lengths and runs the program now and then.
func runUserRing(t *testing.T, write func([]byte) error, run func(*ebpf.RunOptions) (uint32, error), readers map[string]func() recordReader) userRingRun {
	t.Helper()
	var u userRingRun
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		p := make([]byte, r.IntN(90))
		for j := range p {
			p[j] = byte(i + j)
		}
		err := write(p)
		if err != nil && !errors.Is(err, ringbuf.ErrNoRoom) {
			t.Fatal(err)
		}
		u.full = append(u.full, err != nil)
		if r.IntN(12) == 0 && i > 80 {
			ret, err := run(&ebpf.RunOptions{Data: make([]byte, 64)})
			if err != nil {
				t.Fatal(err)
			}
			u.rets = append(u.rets, ret)
			if open := readers["out"]; open != nil {
				u.out = append(u.out, allRecords(t, open())...)
			}
		}
	}
	return u
}

// TestUserRingAsKernel runs testdata/userring.c on every engine and in the kernel, with the same records.
func TestUserRingAsKernel(t *testing.T) {
	needKernel(t)
	for _, name := range []string{"user_count", "user_stop", "user_forward", "user_flags"} {
		t.Run(name, func(t *testing.T) {
			want := userRingInKernel(t, name)
			for _, e := range engines() {
				c := load(t, "userring.o", skep.Options{Engine: e}, name)
				w, err := ringbuf.NewWriter(c.Maps["user"])
				if err != nil {
					t.Fatal(err)
				}
				got := runUserRing(t, w.Write, c.Programs[name].Run, ourRings(t, c))
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(got.full, want.full) || !slices.Equal(got.rets, want.rets) || !slices.EqualFunc(got.out, want.out, bytes.Equal) {
					t.Errorf("%s: kernel %d %x, here %d %x", e, want.rets, want.out, got.rets, got.out)
				}
			}
		})
	}
}

func userRingInKernel(t *testing.T, name string) userRingRun {
	spec, err := ebpf.LoadCollectionSpec("testdata/userring.o")
	if err != nil {
		t.Fatal(err)
	}
	for n := range spec.Programs {
		if n != name {
			delete(spec.Programs, n)
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("kernel: %+v", err)
	}
	defer c.Close()
	return runUserRing(t, newKernelWriter(t, c.Maps["user"]).Write, c.Programs[name].Run, kernelRings(t, c))
}

// TestUserRingWriters: many goroutines write, programs drain at the same time, and every record arrives once.
func TestUserRingWriters(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "userring.o", skep.Options{Engine: e}, "user_forward")
		w, err := ringbuf.NewWriter(c.Maps["user"])
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		r, err := ringbuf.NewReader(c.Maps["out"])
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		const writers, each = 4, 500
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range uint64(writers) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for n := range uint64(each) {
					if err := w.WriteContext(ctx, binary.NativeEndian.AppendUint64(nil, i<<32|n)); err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		var next [writers]uint64
		for got := 0; got < writers*each; {
			if _, err := c.Programs["user_forward"].Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
				t.Fatal(err)
			}
			r.SetDeadline(time.Now())
			for {
				rec, err := r.Read()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				v := binary.NativeEndian.Uint64(rec.RawSample)
				if v&0xffffffff != next[v>>32] {
					t.Fatalf("writer %d: record %d, want %d", v>>32, v&0xffffffff, next[v>>32])
				}
				next[v>>32]++
				got++
			}
			if ctx.Err() != nil {
				t.Fatalf("%d of %d records", got, writers*each)
			}
		}
		wg.Wait()
	})
}
