package skep_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// This file judges generated declarations of kfuncs by what they are for: programs that clang compiles with the header load with the
// same kfuncs, and call them.

type HeaderInner struct {
	Port  uint16
	Flags [3]uint8
}

type headerArg struct {
	Src, DstIP uint32
	In, Next   HeaderInner
	_          [6]byte // more than C would leave out
	Long       int64
	F          uint64
	Renamed    uint8 `btf:"other_name"`
	_          [15]byte
}

type headerObject struct{ Tag, Uses uint64 }

// headerKfuncs has every kind of parameter and result of a Go function.
func headerKfuncs(t *testing.T) *skep.Kfuncs {
	t.Helper()
	var k skep.Kfuncs
	object, err := skep.NewObject[headerObject]()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(object.Free)
	register := func(name string, fn any, flags ...skep.KfuncFlags) {
		if err := k.Register(name, fn, flags...); err != nil {
			t.Fatal(err)
		}
	}
	register("h_none", func() {})
	register("h_scalars", func(a bool, b int8, c uint16, d int32, e uint64) uint8 { return uint8(e) + uint8(b) })
	register("h_arg", func(_ skep.Caller, a, b, c, d, e uint32, p *headerArg, f int8) int64 {
		return int64(a+b+c+d+e) + int64(p.Src) + int64(p.DstIP) + int64(p.Next.Port) + int64(p.Next.Flags[2]) + p.Long + int64(p.Renamed) + int64(f)
	})
	register("h_memory", func(a, b, c, d int64, m []byte, n *int64) int64 { return int64(len(m)) + int64(m[3]) + *n })
	register("h_any", func(p uintptr) int32 { return 0 })
	register("h_get", func(a, b, c, d, e, f int64) *skep.Object[headerObject] {
		object.Value().Tag = uint64(f)
		return object
	}, skep.KfuncAcquire, skep.KfuncRetNull)
	register("h_put", func(p *headerObject) {}, skep.KfuncRelease)
	return &k
}

const headerProgram = `
#include <skep_test.h>
#include "kfuncs.h"

SEC("tc") int all(struct __sk_buff *ctx)
{
	struct header_arg a = {};
	u8 mem[8] = {1, 2, 3, 4};
	long long n = 1000, sum;
	struct header_object *o;

	if (!h_none || !h_scalars || !h_put)
		return -1;
	a.src = 1, a.dst_ip = 2, a.next.port = 3, a.next.flags[2] = 4, a.long_ = 5, a.other_name = 6;
	h_none();
	sum = h_scalars(1, -2, 3, 4, 50); // 48
	sum += SKEP_CALL(h_arg, 1, 2, 3, 4, 5, &a, -1); // 15 + 21 - 1
	sum += SKEP_CALL(h_memory, 1, 2, 3, 4, mem, sizeof(mem), &n); // 1012
	o = SKEP_CALL(h_get, 0, 0, 0, 0, 0, 7);
	if (o) {
		sum += o->tag;
		h_put(o);
	}
	return sum; // 48 + 35 + 1012 + 7
}

LICENSE;
`

func TestKfuncHeader(t *testing.T) {
	k := headerKfuncs(t)
	var header bytes.Buffer
	if err := skep.WriteKfuncHeader(&header, k); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"extern void h_none(void) __attribute__((weak, section(\".ksyms\")));",
		"extern unsigned char h_scalars(_Bool p1, signed char p2, unsigned short p3, int p4, unsigned long long p5) __attribute__",
		"/* returns a reference that must be released; may return NULL */\nSKEP_KFUNC(struct header_object *, h_get, long long, p1,",
		"SKEP_KFUNC(long long, h_memory, long long, p1, long long, p2, long long, p3, long long, p4, void *, p5, unsigned int, p6__sz, long long *, p7);",
		"\tunsigned short port;\n\tunsigned char flags[3];\n",
	} {
		if !strings.Contains(header.String(), want) {
			t.Errorf("not in the header: %s\n%s", want, &header)
		}
	}
	bridgeCompilers(t, func(t *testing.T, clang string) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "kfuncs.h"), header.String())
		writeFile(t, filepath.Join(dir, "prog.c"), headerProgram)
		out := filepath.Join(dir, "prog.o")
		msg, err := exec.Command(clang, "-target", "bpf", "-mlittle-endian", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-Itestdata", "-Iinclude",
			"-c", filepath.Join(dir, "prog.c"), "-o", out).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		spec, err := skep.LoadCollectionSpec(out)
		if err != nil {
			t.Fatal(err)
		}
		eachEngine(t, func(t *testing.T, e skep.Engine) {
			c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Kfuncs: k})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			defer c.Close()
			if ret, _, err := c.Programs["all"].Test(make([]byte, 64)); err != nil || ret != 48+35+1012+7 {
				t.Errorf("%d, %v", ret, err)
			}
		})
	})
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKfuncBTF: functions and the layouts of their types come back.
func TestKfuncBTF(t *testing.T) {
	k := headerKfuncs(t)
	protos, err := k.Prototypes()
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if err := skep.WriteKfuncBTF(&raw, protos); err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range protos {
		var fn *btf.Func
		if err := spec.TypeByName(p.Name, &fn); err != nil || len(fn.Tags) != 1 || fn.Tags[0] != "bpf_kfunc" {
			t.Errorf("%s: %v %v", p.Name, fn, err)
		}
	}
	var s *btf.Struct
	if err := spec.TypeByName("header_arg", &s); err != nil || s.Size != 64 || len(s.Members) != 7 || s.Members[4].Offset.Bytes() != 32 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestKfuncHeaderRefused(t *testing.T) {
	for want, fill := range map[string]func(k *skep.Kfuncs) error{
		"kfunc n: only SetPrototype can say": func(k *skep.Kfuncs) error { return k.RegisterNative("n", 1) },
		`"a.b" is no name in C`:              func(k *skep.Kfuncs) error { return k.Register("a.b", func() {}) },
	} {
		var k skep.Kfuncs
		if err := fill(&k); err != nil {
			t.Fatal(err)
		}
		if err := skep.WriteKfuncHeader(new(bytes.Buffer), &k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
	hole := &btf.Func{Name: "h", Type: &btf.FuncProto{Return: &btf.Pointer{Target: &btf.Struct{Name: "s", Size: 8,
		Members: []btf.Member{{Name: "m", Type: &btf.Array{Nelems: 1}}}}}}}
	for _, fn := range []*btf.Func{nil, {Name: "n"}, hole} {
		if err := skep.WriteKfuncBTF(new(bytes.Buffer), []*btf.Func{fn}); err == nil {
			t.Errorf("BTF of %v", fn)
		}
		if err := skep.WriteDeclaredKfuncs(new(bytes.Buffer), []*btf.Func{fn}); err == nil {
			t.Errorf("declaration of %v", fn)
		}
	}
}
