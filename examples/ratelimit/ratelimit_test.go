package ratelimit_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/examples/ratelimit"
)

// server is a web server behind the plug-in; who asks is in the path.
func server(t *testing.T, rate, burst uint64, clock skep.Clock, decided func(ratelimit.Decision)) *httptest.Server {
	t.Helper()
	l, err := ratelimit.New(ratelimit.Plugin, rate, burst, decided, clock)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(l.Close)
	l.Client = func(r *http.Request) string { return strings.Trim(r.URL.Path, "/") }
	s := httptest.NewServer(l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served") })))
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, s *httptest.Server, client string) int {
	t.Helper()
	resp, err := http.Get(s.URL + "/" + client)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestBucket(t *testing.T) {
	clock := skep.NewFakeClock(uint64(time.Hour))
	var last ratelimit.Decision
	s := server(t, 2, 3, clock, func(d ratelimit.Decision) { last = d })
	check := func(client string, want int) {
		t.Helper()
		if got := get(t, s, client); got != want {
			t.Errorf("%s at %s: %d, want %d", client, time.Duration(clock.Now()), got, want)
		}
	}
	for range 3 {
		check("a", http.StatusOK)
	}
	check("a", http.StatusTooManyRequests)
	check("b", http.StatusOK) // has a bucket of its own
	clock.Advance(499 * time.Millisecond)
	check("a", http.StatusTooManyRequests)
	clock.Advance(time.Millisecond)
	check("a", http.StatusOK)
	check("a", http.StatusTooManyRequests)
	want := ratelimit.Decision{
		Client: last.Client, Path: last.Path, Method: 1, Cost: 1, Now: clock.Now(), Last: clock.Now(), Rate: 2, Burst: 3, Denied: 3,
	}
	if last != want || last.Client == 0 || last.Path == 0 {
		t.Errorf("the plug-in said %+v, want %+v", last, want)
	}
	clock.Advance(24 * time.Hour) // no more than a bucket holds
	for range 3 {
		check("a", http.StatusOK)
	}
	check("a", http.StatusTooManyRequests)
}

// TestManyAtOnce: the bucket of one client is exact, however many requests come at the same time.
func TestManyAtOnce(t *testing.T) {
	var admitted, told atomic.Int64
	s := server(t, 1, 50, skep.NewFakeClock(1), func(ratelimit.Decision) { told.Add(1) })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if get(t, s, "one") == http.StatusOK {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 50 || told.Load() != 160 {
		t.Errorf("%d of 160 requests were admitted, want 50; the server was told of %d", admitted.Load(), told.Load())
	}
}

// TestPlugins: what is no plug-in is refused when it is loaded.
func TestPlugins(t *testing.T) {
	if _, err := ratelimit.New([]byte("no object"), 1, 1, nil, nil); err == nil {
		t.Error("loaded")
	}
	bad := bytes.Replace(ratelimit.Plugin, []byte("http/request"), []byte("http/require"), -1)
	if _, err := ratelimit.New(bad, 1, 1, nil, nil); err == nil || !strings.Contains(err.Error(), "the plug-in has no program admit") {
		t.Errorf("a plug-in for another place: %v", err)
	}
}

func BenchmarkAdmit(b *testing.B) {
	l, err := ratelimit.New(ratelimit.Plugin, 1e9, 1e9, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for b.Loop() {
		if _, err := l.Admit(r); err != nil {
			b.Fatal(err)
		}
	}
}
