package kernelkfunc

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestFor: each way of having a function, and of not having it.
func TestFor(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  ebpf.ProgramType
		at   ebpf.AttachType
		want bool
	}{
		{"bpf_rcu_read_lock", ebpf.RawTracepoint, ebpf.AttachNone, true},
		{"bpf_task_acquire", ebpf.XDP, ebpf.AttachNone, true},
		{"bpf_task_acquire", ebpf.RawTracepoint, ebpf.AttachNone, false},
		{"bpf_task_acquire", ebpf.SocketFilter, ebpf.AttachNone, false},
		{"bpf_task_acquire", ebpf.LSM, ebpf.AttachLSMMac, true},
		{"bpf_put_file", ebpf.LSM, ebpf.AttachLSMMac, true},
		{"bpf_put_file", ebpf.Tracing, ebpf.AttachTraceFEntry, false},
		{"bpf_sock_destroy", ebpf.Tracing, ebpf.AttachTraceIter, true},
		{"bpf_sock_destroy", ebpf.Tracing, ebpf.AttachTraceFEntry, false},
		{"bpf_session_cookie", ebpf.Kprobe, ebpf.AttachTraceKprobeSession, true},
		{"bpf_session_cookie", ebpf.Kprobe, ebpf.AttachTraceKprobeMulti, false},
	} {
		k := Find(c.name)
		if k == nil {
			t.Fatalf("no %s", c.name)
		}
		if got := k.For(c.typ, c.at); got != c.want {
			t.Errorf("%s for %v, %v: %v, want %v", c.name, c.typ, c.at, got, c.want)
		}
	}
	if Find("bpf_no_such_kfunc") != nil {
		t.Error("a function that the kernel does not have was found")
	}
}

// TestTable: every name once, and an iterator's functions have one flag that says which of them they are.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names() {
		if seen[name] {
			t.Errorf("%s twice", name)
		}
		seen[name] = true
		k := Find(name)
		if f := k.Flags & Iter; f&(f-1) != 0 {
			t.Errorf("%s has two flags of iterators", name)
		}
		if k.hooks == 0 {
			t.Errorf("%s: no program has it", name)
		}
	}
}
