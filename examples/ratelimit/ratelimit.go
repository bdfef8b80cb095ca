// Package ratelimit is an example: a web server whose rate limiter is a plug-in, a BPF program that whoever runs the server supplies. The
// server has a hook for it: a section, a context, what may be called and what may be returned. A plug-in is proven to keep to that when it
// is loaded, and runs as machine code, so that it can decide on every request. It tells what it decided by calling a function of the
// server, with twelve arguments.
package ratelimit

import (
	"bytes"
	_ "embed"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// Plugin is the object of bpf/ratelimit.c, which limits each client by a bucket of tokens.
//
//go:embed bpf/ratelimit.o
var Plugin []byte

// Decision is what a plug-in says of a request that it decided on.
type Decision struct {
	Client, Path        uint64 // hashes
	Method, Cost        uint32
	Bytes               uint64
	Now, Last           uint64 // nanoseconds: of this request, and of the client's before
	Tokens, Rate, Burst uint64
	Denied              uint32 // requests of this client, in all
	Admitted            bool
}

// Limiter asks a plug-in about requests. Its methods may be called by many goroutines at a time.
type Limiter struct {
	coll  *skep.Collection
	admit *skep.Program
	// Client says who sends a request, Cost what it costs in tokens.
	Client func(*http.Request) string
	Cost   func(*http.Request) uint32
}

// request is struct request of a plug-in.
type request struct {
	Client, Path uint64
	Method, Cost uint32
	Bytes        uint64
}

// hook is where plug-ins run: in programs of the section http/request, which may read the request, call decided and nothing else of the
// server's, and answer 0 or 1.
var hook = sync.OnceValues(func() (*skep.Hook, error) {
	return skep.NewHook(skep.HookSpec{
		Section: "http/request", Context: request{}, Returns: &skep.ReturnRange{Min: 0, Max: 1}, Kfuncs: []string{"decided"},
	})
})

// New loads a plug-in with so many tokens for each second and so many in a full bucket. decided, if it is not nil, is told of each
// decision, perhaps by several goroutines at once; clock is nil but for tests.
func New(plugin []byte, rate, burst uint64, decided func(Decision), clock skep.Clock) (*Limiter, error) {
	spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(plugin))
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]uint64{"rate": rate, "burst": burst} {
		v := spec.Variables[name]
		if v == nil {
			return nil, fmt.Errorf("the plug-in has no variable %s", name)
		}
		if err := v.Set(value); err != nil {
			return nil, err
		}
	}
	var kfuncs skep.Kfuncs
	err = kfuncs.Register("decided", func(client, path uint64, method, cost uint32, bytes, now, last, tokens, rate, burst uint64, denied, verdict uint32) {
		if decided != nil {
			decided(Decision{client, path, method, cost, bytes, now, last, tokens, rate, burst, denied, verdict != 0})
		}
	})
	if err != nil {
		return nil, err
	}
	h, err := hook()
	if err != nil {
		return nil, err
	}
	coll, err := skep.NewCollectionWithOptions(spec, skep.Options{Hooks: []*skep.Hook{h}, Kfuncs: &kfuncs, Env: skep.Env{Clock: clock}})
	if err != nil {
		return nil, err
	}
	l := &Limiter{coll: coll, admit: coll.Programs["admit"]}
	if l.admit == nil {
		coll.Close()
		return nil, fmt.Errorf("the plug-in has no program admit")
	}
	l.Client = func(r *http.Request) string { return r.RemoteAddr }
	l.Cost = func(*http.Request) uint32 { return 1 }
	return l, nil
}

// Close frees the plug-in.
func (l *Limiter) Close() { l.coll.Close() }

// Handler serves what the plug-in admits with next, and 429 otherwise. A plug-in that fails admits nothing.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok, err := l.Admit(r)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !ok:
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// methods are numbers of methods for plug-ins; 0 is any other.
var methods = []string{"", http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete}

// Admit asks the plug-in about a request.
func (l *Limiter) Admit(r *http.Request) (bool, error) {
	ret, err := l.admit.Run(&ebpf.RunOptions{Context: &request{
		Client: hash(l.Client(r)), Path: hash(r.URL.Path), Method: uint32(max(slices.Index(methods, r.Method), 0)),
		Cost: l.Cost(r), Bytes: uint64(max(r.ContentLength, 0)),
	}})
	return ret == 1, err
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
