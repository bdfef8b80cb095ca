package perfring

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// model is a ring as a list of records.
type model struct {
	size, used int
	records    [][]byte // nil: a count, in lost
	lost       []uint64
	pending    uint64
}

func (m *model) append(b []byte, overwrite bool) bool {
	need := (12 + len(b) + 7) &^ 7
	total := need
	if m.pending > 0 {
		total += 24
	}
	for overwrite && need <= m.size-8 && m.used+need > m.size-8 {
		m.used -= (12 + len(m.records[0]) + 7) &^ 7
		m.records, m.lost = m.records[1:], m.lost[1:]
	}
	if m.used+total > m.size-8 {
		if !overwrite {
			m.pending++
		}
		return false
	}
	if m.pending > 0 {
		m.records, m.lost = append(m.records, nil), append(m.lost, m.pending)
		m.pending = 0
	}
	m.records, m.lost = append(m.records, b), append(m.lost, 0)
	m.used += total
	return true
}

// TestRing compares rings with the model: what fits, what is lost, and the data, round the end of the buffer many times.
func TestRing(t *testing.T) {
	for _, overwrite := range []bool{false, true} {
		r := New(4096, Options{Overwritable: overwrite}, func() {})
		m := &model{size: 4096}
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range 50_000 {
			if rng.IntN(5) < 3 {
				b := make([]byte, rng.IntN(100))
				if rng.IntN(500) == 0 {
					b = make([]byte, 4000+rng.IntN(200))
				}
				for j := range b {
					b[j] = byte(rng.Uint32())
				}
				cut := rng.IntN(len(b) + 1)
				if got, want := r.Append(b[:cut], b[cut:]), m.append(b, overwrite); got != want {
					t.Fatalf("step %d: %d bytes: %v, want %v", i, len(b), got, want)
				}
				continue
			}
			rec, ok := r.Read(nil)
			if n := len(m.records); ok != (n > 0) {
				t.Fatalf("step %d: read %v of %d", i, ok, n)
			} else if n == 0 {
				continue
			}
			at := 0
			if overwrite {
				at = len(m.records) - 1
			}
			if rec.Lost != m.lost[at] || !bytes.Equal(rec.Data, m.records[at]) {
				t.Fatalf("step %d: %+v, want %x, lost %d", i, rec, m.records[at], m.lost[at])
			}
			m.used -= (12 + len(m.records[at]) + 7) &^ 7
			if m.lost[at] > 0 {
				m.used -= 24 - 16
			}
			m.records = append(m.records[:at:at], m.records[at+1:]...)
			m.lost = append(m.lost[:at:at], m.lost[at+1:]...)
			if rec.Remaining != m.used {
				t.Fatalf("step %d: %d bytes remain, want %d", i, rec.Remaining, m.used)
			}
		}
	}
}

func TestSize(t *testing.T) {
	page := Size(1)
	for n, want := range map[int]int{page: page, page + 1: 2 * page, 3 * page: 4 * page, 4 * page: 4 * page, 5*page - 1: 8 * page} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes: %d, want %d", n, got, want)
		}
	}
}
