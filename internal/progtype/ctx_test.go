package progtype

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

var update = flag.Bool("update", false, "write testdata/contexts.golden anew")

const golden = "testdata/contexts.golden"

// everyContext calls f with each type, attach type and machine that makes a difference.
func everyContext(f func(name string, c Context)) {
	for t := ebpf.UnspecifiedProgram + 1; t <= ebpf.Netfilter; t++ {
		attach := attachTypes[t]
		if attach == nil {
			attach = []ebpf.AttachType{ebpf.AttachNone}
		}
		if t == ebpf.XDP {
			attach = append(attach, ebpf.AttachXDPDevMap)
		}
		for _, at := range attach {
			archs := []string{"amd64"}
			if layoutOf(t, "amd64") != layoutOf(t, "arm64") {
				archs = append(archs, "arm64")
			}
			for _, arch := range archs {
				if c := Of(t, at, arch); c.Known() {
					f(fmt.Sprintf("%v %v %s", t, at, arch), c)
				}
			}
		}
	}
}

var opNames = []string{Read: "read", ReadSigned: "signed", Write: "write"}

var fieldNames = []string{
	FieldScalar: "", FieldPacket: " packet", FieldPacketMeta: " meta", FieldPacketEnd: " end", FieldSockCommonOrNull: " sock_common?",
	FieldSocket: " sock", FieldSocketOrNull: " sock?", FieldFlowKeys: " flow_keys", FieldTPBuffer: " tp_buffer", FieldHookState: " nf_hook_state", FieldSkBuff: " sk_buff",
}

// describe lists what is permitted: for each operation, size and kind of field the offsets, neighbours as a range.
func describe(c Context) string {
	out := fmt.Sprintf("    %d bytes, plain %v\n", c.Size(), c.Plain())
	for _, op := range []Op{Read, Write} { // signed reads are reads of what is no pointer, see TestTables
		for _, size := range []int{1, 2, 4, 8} {
			at := map[Field][]string{}
			for off := 0; off < c.Size(); {
				a := c.Access(off, size, op)
				first := off
				for off += size; a.OK && c.Access(off, size, op) == a; off += size {
				}
				if a.OK {
					at[a.Field] = append(at[a.Field], fmt.Sprintf("%d-%d", first, off-1))
				}
			}
			for f, name := range fieldNames {
				if len(at[Field(f)]) > 0 {
					out += fmt.Sprintf("    %s u%d%s: %s\n", opNames[op], 8*size, name, strings.Join(at[Field(f)], " "))
				}
			}
		}
	}
	return out
}

// TestGolden keeps every context as it was compared with the kernel (internal/difftest, TestContexts), for those who
// cannot ask it.
func TestGolden(t *testing.T) {
	var b strings.Builder
	everyContext(func(name string, c Context) { b.WriteString(name + "\n" + describe(c)) })
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() == string(want) {
		return
	}
	have, lines := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range have {
		if i >= len(lines) || have[i] != lines[i] {
			t.Fatalf("line %d is %q; look at the difference after -update", i+1, have[i])
		}
	}
	t.Fatal("contexts are missing")
}

// TestTables: rows lie inside their structure, pointers are read whole, nothing beyond the structure or misaligned is ever
// permitted, and only scalars are written.
func TestTables(t *testing.T) {
	everyContext(func(name string, c Context) {
		for _, r := range c.l.rows {
			if r.off < 0 || r.size <= 0 || r.off+r.size > c.l.size {
				t.Errorf("%s: row at %d", name, r.off)
			}
			if r.is != FieldScalar && (r.write != none || r.read != 4 && r.read != 8) {
				t.Errorf("%s: pointer at %d: read %d, write %d", name, r.off, r.read, r.write)
			}
		}
		for off := -16; off < min(c.Size(), 1<<14)+16; off++ {
			for _, size := range []int{-1, 0, 1, 2, 3, 4, 8, 16} {
				for op := range opNames {
					a := c.Access(off, size, Op(op))
					bad := size <= 0 || size == 3 || size > 8 || off < 0 || off+size > c.Size()
					if a.OK && (bad || off%size != 0 || a.Field != FieldScalar && Op(op) != Read) {
						t.Errorf("%s: %s of %d bytes at %d permitted", name, opNames[op], size, off)
					}
				}
			}
		}
	})
}

// TestMachines: arm64 has other registers.
func TestMachines(t *testing.T) {
	for _, c := range []struct {
		typ  ebpf.ProgramType
		arch string
		size int
		name string
	}{
		{ebpf.Kprobe, "amd64", 168, "pt_regs"}, {ebpf.Kprobe, "arm64", 272, "user_pt_regs"}, {ebpf.Kprobe, "riscv64", 168, "pt_regs"},
		{ebpf.PerfEvent, "amd64", 184, "bpf_perf_event_data"}, {ebpf.PerfEvent, "arm64", 288, "bpf_perf_event_data"},
		{ebpf.XDP, "arm64", 24, "xdp_md"},
	} {
		if got, name := Of(c.typ, 0, c.arch).Size(), CtxName(c.typ, c.arch); got != c.size || name != c.name {
			t.Errorf("%v on %s: %s of %d bytes", c.typ, c.arch, name, got)
		}
	}
}

// TestRuntimes: a context that can run is one whose layout the runtime shares, and whose pointers have a place for their
// 64 bits.
func TestRuntimes(t *testing.T) {
	everyContext(func(name string, c Context) {
		typ := contextType(c)
		if !HasRuntime(typ) {
			return
		}
		for off := 0; off+4 <= c.Size(); off += 4 {
			f := c.Access(off, 4, Read).Field
			shadow, ok := ShadowOffset(typ, off)
			if pointer := f == FieldPacket || f == FieldPacketEnd || f == FieldPacketMeta; pointer && !ok {
				t.Errorf("%s: the pointer at %d has no 64-bit value", name, off)
			} else if pointer && (shadow < c.Size() || shadow+8 > BlockSize) {
				t.Errorf("%s: the value of the pointer at %d lies at %d", name, off, shadow)
			}
		}
	})
}

// contextType finds the type that has c's structure.
func contextType(c Context) ebpf.ProgramType {
	for typ := ebpf.UnspecifiedProgram; typ <= ebpf.Netfilter; typ++ {
		if layoutOf(typ, "amd64") == c.l || layoutOf(typ, "arm64") == c.l {
			return typ
		}
	}
	return ebpf.UnspecifiedProgram
}

// TestOnlyVerified names what cannot run: types, and fields of types that can.
func TestOnlyVerified(t *testing.T) {
	types, fields := "", map[string]bool{}
	for typ := ebpf.UnspecifiedProgram + 1; typ <= ebpf.Netfilter; typ++ {
		if !HasRuntime(typ) {
			types += " " + typ.String()
			continue
		}
		for _, r := range layoutOf(typ, "amd64").rows {
			if !r.is.Loadable() {
				fields[fmt.Sprintf("%v %d%s", typ, r.off, fieldNames[r.is])] = true
			}
		}
	}
	if want := " SkSKB SkMsg LircMode2 SkReuseport CGroupSockopt Tracing StructOps Extension LSM Netfilter"; types != want {
		t.Errorf("types%s, want%s", types, want)
	}
	if len(fields) != 2 || !fields["CGroupSockAddr 64 sock"] || !fields["RawTracepointWritable 0 tp_buffer"] {
		t.Errorf("fields %v", fields)
	}
	if HasRuntime(1<<31) || HasRuntime(^ebpf.ProgramType(0)) {
		t.Error("types that are not there run")
	}
}

// TestPointers: every byte of every pointer counts, and no other.
func TestPointers(t *testing.T) {
	c := Of(ebpf.SockOps, 0, "")
	for off := range c.Size() {
		b := make([]byte, c.Size())
		b[off] = 1
		first, set := c.PointerSet(b)
		if want := off >= 184 && off < 208; set != want || want && first != off&^7 {
			t.Errorf("byte %d: %d, %v", off, first, set)
		}
		c.ClearPointers(b)
		if _, set := c.PointerSet(b); set || b[off] == 0 && (off < 184 || off >= 208) {
			t.Errorf("byte %d: cleared %v", off, b[off])
		}
	}
}
