package difftest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// This file compares calls of helpers: every prototype gets arguments of every kind, right ones and wrong ones.

// callValues are what an argument can be, as text to put behind "rN = ". Each program prepares r6 (the context), r7 (a map
// value of 64 bytes), r8 (a number below 64), r9 (a socket where the context has one), 64 bytes of stack from r10 - 64 on, and 64
// that nothing wrote below those.
var callValues = []string{
	"0", "1", "8", "64", "65", "-1", "r6", "r7", "r8", "r9", "r10 + 0", "r10 + -64", "r10 + -128", "r10 + -60", "r10 + -61", "r7 + 60", "r6 + 4",
	"map[array] ll", "map[text] ll", "map[text][0] ll",
}

// callMaps are the maps that arguments can name, by name: directives of text programs.
var callMaps = map[string]string{
	"array": "array 4 64 1",
	"text":  "array 4 8 1 rdonly_prog frozen data=2564257300000000",
	"progs": "prog_array 4 4 1",
	"dev":   "devmap 4 4 1", "cpu": "cpumap 4 4 1", "xsk": "xskmap 4 4 1",
	"hash": "hash 8 8 4", "percpu": "percpu_array 4 8 1",
	"events": "perf_event_array 4 4 1", "ring": "ringbuf 0 0 4096", "stacks": "stack_trace 4 80 4", "groups": "cgroup_array 4 4 1",
	"storage": "cgroup_storage 16 8 0", "percpu_storage": "percpu_cgroup_storage 16 8 0", "socks": "sockmap 4 4 1",
	"sockhash": "sockhash 4 4 1", "reuse": "reuseport_sockarray 4 4 1", "queue": "queue 0 8 4", "stack": "stack 0 8 4",
	"bloom": "bloom_filter 0 8 4", "sk_storage": "sk_storage 4 8 0 1", "maps": "array_of_maps 4 4 1 inner=array",
}

// mapOf is a map that suits a helper.
func mapOf(id int32) string {
	switch id {
	case 12:
		return "progs"
	case 51:
		return "dev"
	case 22, 25, 55:
		return "events"
	case 27:
		return "stacks"
	case 33, 37:
		return "groups"
	case 52, 53, 60:
		return "socks"
	case 70, 71, 72:
		return "sockhash"
	case 81:
		return "storage"
	case 82:
		return "reuse"
	case 87, 88, 89:
		return "queue"
	case 107, 108:
		return "sk_storage"
	case 130, 131, 134:
		return "ring"
	case 195:
		return "percpu"
	}
	return "array"
}

// right is a value that suits an argument of that kind.
func right(kind verifier.ArgKind, mapName string) string {
	switch kind {
	case verifier.ArgCtx:
		return "r6"
	case verifier.ArgConstMapPtr:
		return "map[" + mapName + "] ll"
	case verifier.ArgConstStr:
		return "map[text][0] ll"
	case verifier.ArgSockPtr, verifier.ArgSockCommon, verifier.ArgSocket:
		return "r9"
	case verifier.ArgConstSize, verifier.ArgConstSizeOrZero, verifier.ArgConstAllocSize:
		return "8"
	case verifier.ArgDontCare, verifier.ArgAnything, verifier.ArgRingBufMem:
		return "0"
	}
	return "r10 + -64"
}

// helperCall is a call with its arguments.
type helperCall struct {
	kind ctxKind
	id   int32
	args [5]string
	// packet: r8 is a pointer to eight bytes of the packet, of which the program loads one after the call.
	packet bool
}

func (c helperCall) String() string {
	return fmt.Sprintf("bpf_%s%v in %v", helpers.Proto(c.id).Name, c.args, c.kind)
}

// skAt is where contexts have a pointer to a socket.
var skAt = map[ebpf.ProgramType]int{
	ebpf.SchedCLS: 168, ebpf.SchedACT: 168, ebpf.CGroupSKB: 168, ebpf.SockOps: 184, ebpf.CGroupSockopt: 0, ebpf.CGroupSockAddr: 64,
	ebpf.SkLookup: 0, ebpf.SkMsg: 72,
}

// callPackets is where contexts have the packet and its end, and of what size these fields are.
var callPackets = map[ebpf.ProgramType]string{
	ebpf.SchedCLS: skbPacket, ebpf.SchedACT: skbPacket, ebpf.LWTIn: skbPacket, ebpf.LWTOut: skbPacket, ebpf.LWTXmit: skbPacket,
	ebpf.LWTSeg6Local: skbPacket, ebpf.SkSKB: skbPacket, ebpf.CGroupSKB: skbPacket,
	ebpf.XDP:         "r8 = *(u32 *)(r6 + 0)\nr3 = *(u32 *)(r6 + 4)\n",
	ebpf.SkMsg:       "r8 = *(u64 *)(r6 + 0)\nr3 = *(u64 *)(r6 + 8)\n",
	ebpf.SkReuseport: "r8 = *(u64 *)(r6 + 0)\nr3 = *(u64 *)(r6 + 8)\n",
	ebpf.SockOps:     "r8 = *(u64 *)(r6 + 192)\nr3 = *(u64 *)(r6 + 200)\n",
}

const skbPacket = "r8 = *(u32 *)(r6 + 76)\nr3 = *(u32 *)(r6 + 80)\n"

// prologue prepares r6 to r9 and the stack.
func (c helperCall) prologue() string {
	var s strings.Builder
	s.WriteString("r6 = r1\nr9 = 0\n")
	if off, ok := skAt[c.kind.typ]; ok {
		fmt.Fprintf(&s, "r9 = *(u64 *)(r6 + %d)\nif r9 != 0 goto sock\nr0 = 1\nexit\nsock: ", off)
	}
	for off := 8; off <= 64; off += 8 {
		fmt.Fprintf(&s, "*(u64 *)(r10 - %d) = 0\n", off)
	}
	s.WriteString("r1 = map[array] ll\nr2 = r10\nr2 += -8\ncall 1\nif r0 != 0 goto value\nr0 = 1\nexit\nvalue: r7 = r0\n")
	if c.packet {
		s.WriteString(callPackets[c.kind.typ] + "r2 = r8\nr2 += 8\nif r2 <= r3 goto packet\nr0 = 1\nexit\npacket: ")
		return s.String()
	}
	s.WriteString("call 7\nr8 = r0\nr8 &= 63\n")
	return s.String()
}

// set is the text that gives register r a value.
func set(r int, value string) string {
	base, off, moved := strings.Cut(value, " + ")
	text := fmt.Sprintf("r%d = %s\n", r, base)
	if moved {
		text += fmt.Sprintf("r%d += %s\n", r, off)
	}
	return text
}

// program is the call as a program: it prepares the values, calls and returns 1.
func (c helperCall) program(t *testing.T) *program.Program {
	t.Helper()
	body := c.prologue()
	for i, v := range c.args {
		if v != "" {
			body += set(i+1, v)
		}
	}
	body += fmt.Sprintf("call %d\n", c.id)
	if c.packet {
		body += "r1 = *(u8 *)(r8 + 0)\n"
	}
	body += "r0 = 1\nexit\n"
	src := ""
	for _, name := range slices.Sorted(maps.Keys(callMaps)) {
		if strings.Contains(body, "map["+name+"]") {
			src += ".map " + name + " " + callMaps[name] + "\n"
		}
	}
	p, err := asmtext.Program(src+body, asmtext.ProgramOptions{Name: "call"})
	if err != nil {
		t.Fatalf("%v: %v\n%s", c, err, src+body)
	}
	for i := range p.Maps {
		if p.Maps[i].Type == ebpf.SkStorage { // the kernel wants to know the types
			p.Maps[i].Key = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
			p.Maps[i].Value = &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
		}
	}
	k := c.kind.program()
	p.Type, p.AttachType, p.Flags = k.Type, k.AttachType, k.Flags
	return p
}

// helperCalls are the calls of one prototype: all arguments right with each map, and each argument in turn everything else.
func helperCalls(k ctxKind, p *verifier.HelperProto) []helperCall {
	var out []helperCall
	_, packet := callPackets[k.typ]
	add := func(args [5]string) {
		out = append(out, helperCall{k, p.ID, args, false})
		if packet && (len(out) == 1 || slices.Contains(args[:], "r8")) {
			out = append(out, helperCall{k, p.ID, args, true})
		}
	}
	var suits [5]string
	for i, a := range p.Args {
		suits[i] = right(a.Kind, mapOf(p.ID))
	}
	add(suits)
	for i, a := range p.Args {
		if a.Kind == verifier.ArgDontCare {
			break
		}
		args := suits
		for _, v := range callValues {
			args[i] = v
			add(args)
		}
		args[i] = "" // not initialised
		add(args)
		if a.Kind == verifier.ArgConstMapPtr {
			for m := range callMaps {
				args[i] = "map[" + m + "] ll"
				add(args)
			}
		}
	}
	return out
}

// callDiffers is differs, without the states of rejected programs and where only one verifier marks a register precise: the kernel does not do so with a
// NULL that it decided on (docs/differences.md), which breaks the lines of its log elsewhere.
func callDiffers(p *program.Program) string {
	v, err := judge(p, verifier.LogAll, 0)
	if d := disagree(p, v, err); d != "" || !v.Ours || !v.Kernel {
		return d
	}
	const mark = "mark_precise: "
	if strings.Count(v.OurLog, mark) != strings.Count(v.KernelLog, mark) {
		return ""
	}
	return firstDifference(v.OurLog, v.KernelLog)
}

// TestHelperCalls compares, for every prototype, what its arguments may be, in two program types, and what it does to the packet in all that
// have one.
func TestHelperCalls(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of helpers' arguments: ", err)
	}
	var report ctxReport
	refused := 0
	for _, id := range slices.Sorted(slices.Values(helpers.IDs())) {
		seen := map[*verifier.HelperProto]int{}
		for _, k := range ctxKinds() {
			p := helpers.Proto(id).In(k.typ, k.attach)
			if p == nil || p.Missing != "" || p.Callback != verifier.CallbackNone || seen[p] >= 2 && callPackets[k.typ] == "" {
				continue
			}
			seen[p]++
			for _, c := range helperCalls(k, p) {
				if seen[p] > 2 && !c.packet {
					continue
				}
				d := callDiffers(c.program(t))
				if strings.Contains(d, "skep does not verify this yet") {
					refused++
					continue
				}
				report.add(t, c.String(), d)
			}
		}
	}
	t.Logf("%d calls, %d differ, %d refused by name", report.programs, report.differ, refused)
}
