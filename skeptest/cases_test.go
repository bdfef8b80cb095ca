package skeptest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/skep-bpf/skep"
)

// The structures of testdata/cases.c.
type (
	flow struct {
		Addr        [4]byte
		Port, Proto uint16
	}
	stat struct {
		Packets, Bytes uint64
		MAC            [6]byte
		Last           uint8
		Name           [9]byte
	}
	event struct {
		At          uint64
		Random, CPU uint32
	}
)

// newSuite is one of testdata/cases.o.
func newSuite() *Suite { return &Suite{File: "testdata/cases.o", Engines: engines()} }

// packet is a UDP packet with a time to live.
func packet(ttl uint8) []byte {
	ip := &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{198, 51, 100, 1}}
	udp := &layers.UDP{SrcPort: 4000, DstPort: 53}
	eth := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, eth, ip, udp, gopacket.Payload("hello")); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var dns = flow{[4]byte{198, 51, 100, 1}, 53, 17}

// goodCases pass.
func goodCases() []Case {
	return []Case{
		{
			Name: "a new flow", Program: "forward", Packet: packet(64), Want: XDPTx, WantPacket: packet(63),
			MapsAfter: Maps{
				"flows":  {{Key: dns, Value: stat{Packets: 1, Bytes: 60, Last: 17}}},
				"percpu": {{Key: 0, Value: 1}},
			},
			VarsAfter: map[string]any{"dropped": 0},
			Kfuncs:    []KfuncCall{},
		},
		{
			Name: "a flow at its limit", Program: "forward", Packet: packet(64), Want: XDPDrop, WantPacket: packet(64),
			MapsBefore: Maps{"flows": {{Key: dns, Value: stat{Packets: 2, Name: [9]byte{'x'}}}, {Key: flow{Port: 1}, Value: make([]byte, 32)}}},
			VarsBefore: map[string]any{"dropped": uint32(40)},
			VarsAfter:  map[string]any{"dropped": 41},
			MapsAfter:  Maps{"flows": {{Key: flow{Port: 1}, Value: stat{}}, {Key: dns, Value: stat{Packets: 2, Name: [9]byte{'x'}}}}},
		},
		{
			Name: "another limit", Program: "forward", Packet: packet(64), Want: XDPDrop, Consts: map[string]any{"limit": 0},
			MapsAfter: Maps{"flows": {{Key: dns, Value: stat{}}}},
		},
		{Name: "no IP", Program: "forward", Want: XDPPass, WantPacket: make([]byte, 64), MapsAfter: Maps{"flows": {}}},
		{Name: "anything goes", Program: "forward", AnyReturn: true},
		{
			Name: "steps", Program: "forward", Packet: packet(2), Want: XDPTx, WantPacket: packet(1),
			Then: []Case{
				{Packet: packet(2), Want: XDPTx},
				{Packet: packet(2), Want: XDPDrop, VarsAfter: map[string]any{"dropped": 1}},
				{
					Program: "report", Want: XDPPass, Advance: time.Minute, AdvanceAfter: time.Second, CPU: uint32(skep.PossibleCPUs() - 1),
					MapsAfter: Maps{
						"totals": {{Key: 1, Value: 1}},
						"events": {{Value: event{At: defaultNow + uint64(time.Minute), Random: 2608610206, CPU: uint32(skep.PossibleCPUs() - 1)}}},
					},
				},
				{Program: "report", Want: XDPPass, MapsAfter: Maps{"totals": {{Key: 1, Value: 2}}}},
			},
		},
		{
			Name: "kfuncs", Program: "charge", Want: 12,
			Kfuncs: []KfuncCall{{Name: "price", Args: []any{0x0a000001, 80}, Result: 5}, {Name: "price", Args: []any{Any, uint16(443)}, Result: uint32(7)}},
		},
		{Name: "kfuncs that nobody asks about", Program: "charge", Want: 0},
		{
			Name: "functions of the case", Program: "forward", Packet: packet(64), Want: XDPTx,
			Setup: func(c *skep.Collection) error { return c.Variables["dropped"].Set(uint32(9)) },
			Check: func(c *skep.Collection, r skep.RunResult) error {
				var n uint32
				if err := c.Variables["dropped"].Get(&n); err != nil || n != 9 || r.R0 != uint64(XDPTx) {
					return fmt.Errorf("%d, %v, %+v", n, err, r)
				}
				return nil
			},
		},
	}
}

func TestGoodCases(t *testing.T) { newSuite().Run(t, goodCases()) }

// TestParallel: cases of one suite run at the same time, and none sees the maps of another.
func TestParallel(t *testing.T) {
	s := newSuite()
	s.Parallel = true
	for i := range 8 {
		cases := goodCases()
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s.Run(t, cases)
		})
	}
}

// TestDiffs: what is different is said by name. Each case is a good one with one thing wrong.
func TestDiffs(t *testing.T) {
	for _, c := range []struct {
		of     string
		change func(c *Case)
		want   string // a line of the error each
	}{
		{"a new flow", func(c *Case) { c.Want = XDPDrop }, "return value: got XDP_TX (3), want XDP_DROP (1)"},
		{"a new flow", func(c *Case) { c.WantPacket = packet(64) }, "packet: IPv4.TTL: got 63, want 64 (byte 22)"},
		{"a new flow", func(c *Case) { c.WantRedirect = &skep.Redirect{Set: true, IfIndex: 7} }, "redirect: got none, want interface 7, flags 0x0"},
		{"a new flow", func(c *Case) { c.VarsAfter = map[string]any{"dropped": uint32(1)} }, "variable dropped: got 0, want 1 (bytes 0 to 3)"},
		{"a new flow", func(c *Case) { c.MapsAfter["flows"][0].Value = stat{Packets: 2, Bytes: 60, Last: 6} },
			"map flows[{.addr = 23344070, .port = 53, .proto = 17}].packets: got 1, want 2 (bytes 0 to 7)\n" +
				"map flows[{.addr = 23344070, .port = 53, .proto = 17}].last: got 17, want 6 (byte 22)"},
		{"a new flow", func(c *Case) { c.MapsAfter = Maps{"flows": {}} },
			"map flows[{.addr = 23344070, .port = 53, .proto = 17}] = {.packets = 1, .bytes = 60, .mac = hex(00 00 00 00 00 00), .last = 17, .name = \"\"} is not expected"},
		{"no IP", func(c *Case) { c.MapsAfter = Maps{"flows": {{Key: dns, Value: stat{}}}} },
			"map flows[{.addr = 23344070, .port = 53, .proto = 17}] is not there"},
		{"a new flow", func(c *Case) { c.MapsAfter = Maps{"percpu": {}} }, "map percpu[0] is not listed and has changed"},
		{"a new flow", func(c *Case) { c.MapsAfter = Maps{"percpu": {{Key: 0, Value: 5}}} },
			"map percpu[0] on CPU 0: got 1, want 5 (bytes 0 to 3)"},
		{"steps", func(c *Case) { c.Then[3].MapsAfter = Maps{"totals": {}} },
			"Then[3]: map totals[1], which is not listed and has changed,: got 2, want 1 (bytes 0 to 7)"},
		{"steps", func(c *Case) { c.Then[2].Name = "the event"; c.Then[2].MapsAfter = Maps{"events": {}} },
			"Then[2] the event: map events: entry 0, hex("},
		{"steps", func(c *Case) { c.Then[0].MapsAfter = Maps{"events": {{Value: event{}}}} },
			"Then[0]: map events: entry 0, {.At = 0, .Random = 0, .CPU = 0}, is not there"},
		{"steps", func(c *Case) { c.Seed = 8 }, "Then[2]: map events: entry 0.Random: got "},
		{"kfuncs", func(c *Case) { c.Kfuncs[0].Args[1] = 81 }, "kfunc call 0: got price(167772161, 80), want price(167772161, 81)"},
		{"kfuncs", func(c *Case) { c.Kfuncs = c.Kfuncs[:1] }, "kfunc call 1: price(2, 443) is not expected"},
		{"kfuncs", func(c *Case) { c.Kfuncs = append(c.Kfuncs, KfuncCall{Name: "price"}) }, "kfunc call 2: price(...) is missing"},
		{"kfuncs", func(c *Case) { c.Kfuncs[1].Result = "x" }, "kfunc call 1: price: Result: string where uint32 is"},
		{"kfuncs", func(c *Case) { c.Kfuncs[1].Result = -1 }, "kfunc call 1: price: Result: -1 does not fit into uint32"},
		{"functions of the case", func(c *Case) { c.Check = func(*skep.Collection, skep.RunResult) error { return errors.New("not so") } }, "not so"},
	} {
		c2 := caseOf(t, c.of)
		c.change(&c2)
		err := newSuite().Check(c2)
		var f *Failure
		if !errors.As(err, &f) {
			t.Errorf("%s, want %s: %v", c.of, c.want, err)
			continue
		}
		if !strings.Contains(strings.Join(f.Diffs, "\n")+"\n", c.want) {
			t.Errorf("%s:\n%v\nwant %s", c.of, err, c.want)
		}
		if !strings.Contains(f.Where, "program "+c2.Program) && len(c2.Then) == 0 || !strings.Contains(f.Where, "seed 0x") {
			t.Errorf("%s: where: %s", c.of, f.Where)
		}
	}
}

func caseOf(t *testing.T, name string) Case {
	t.Helper()
	for _, c := range goodCases() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no case %s", name)
	return Case{}
}

// TestCannotRun: a case that makes no sense says what is wrong with it, and is no failure of the program.
func TestCannotRun(t *testing.T) {
	for _, c := range []struct {
		c    Case
		want string
	}{
		{Case{}, "Program is not set; there are: charge, forward, report"},
		{Case{Program: "x"}, "there is no program x; there are: charge, forward, report"},
		{Case{Program: "report", Consts: map[string]any{"x": 1}}, "Consts: the object has no variable x; it has: dropped, limit"},
		{Case{Program: "report", Consts: map[string]any{"limit": 1 << 32}}, "Consts: limit: 4294967296 does not fit into 4 bytes"},
		{Case{Program: "report", VarsBefore: map[string]any{"x": 1}}, "VarsBefore: the object has no variable x; it has: dropped, limit"},
		{Case{Program: "report", VarsBefore: map[string]any{"limit": 1}}, "VarsBefore: limit: variable limit: variable is read-only"},
		{Case{Program: "report", VarsAfter: map[string]any{"dropped": uint64(1)}}, "VarsAfter: dropped: uint64 has 8 bytes, here are 4"},
		{Case{Program: "report", MapsBefore: Maps{"x": nil}}, "MapsBefore: the object has no map x; it has: "},
		{Case{Program: "report", MapsAfter: Maps{"x": nil}}, "MapsAfter: the object has no map x; it has: "},
		{Case{Program: "report", MapsBefore: Maps{"totals": {{Key: 9, Value: 1}}}}, "MapsBefore: map totals: entry 0: update: "},
		{Case{Program: "report", MapsBefore: Maps{"totals": {{Key: 1, Value: "x"}}}}, "MapsBefore: map totals: entry 0: value: string has 1 bytes, here are 8"},
		{Case{Program: "report", MapsAfter: Maps{"flows": {{Key: "abc", Value: 1}}}}, "MapsAfter: map flows: entry 0: key: string has 3 bytes, here are 8"},
		{Case{Program: "report", MapsBefore: Maps{"events": {{Value: 1}}}}, "nothing can be put into a map of type RingBuf here"},
		{Case{Program: "report", MapsAfter: Maps{"events": {{Key: 1, Value: event{}}}}}, "a map of type RingBuf has no keys: Key must be nil"},
		{Case{Program: "report", CPU: 1 << 20}, "there is no CPU 1048576"},
		{Case{Program: "report", Packet: make([]byte, 3)}, "run program: "},
		{Case{Program: "report", Then: []Case{{Seed: 1}}, AnyReturn: true}, "Then[0]: a step of Then cannot have Consts, Now, Seed and Then"},
		{Case{Program: "report", Setup: func(*skep.Collection) error { return errors.New("oh") }}, "Setup: oh"},
	} {
		err := newSuite().Check(c.c)
		var f *Failure
		if err == nil || errors.As(err, &f) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
	for _, s := range []*Suite{{}, {File: "x", Object: []byte("y")}, {File: "testdata/none.o"}, {Object: []byte("no object")},
		{File: "testdata/cases.o", Kfuncs: map[string]any{"price": 7}}} {
		if err := s.Check(Case{}); err == nil {
			t.Errorf("%s %s %v: no error", s.File, s.Object, s.Kfuncs)
		}
	}
}

// TestSeeds: random numbers are those of the name or the seed, the same each time, and no two names have the same.
func TestSeeds(t *testing.T) {
	random := func(c Case) (n uint32) {
		t.Helper()
		c.Program, c.Want = "report", XDPPass
		c.Check = func(c *skep.Collection, _ skep.RunResult) error {
			all, err := drain(c.Maps["events"])
			if err != nil || len(all) != 1 {
				return fmt.Errorf("%d events, %v", len(all), err)
			}
			n = binary.NativeEndian.Uint32(all[0].value[8:])
			return nil
		}
		if err := newSuite().Check(c); err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b := random(Case{Name: "a"}), random(Case{Name: "b"})
	if a == b {
		t.Errorf("two names, one number: %#x", a)
	}
	if again := random(Case{Name: "a"}); again != a {
		t.Errorf("%#x, then %#x", a, again)
	}
	if x, y := random(Case{Name: "a", Seed: 5}), random(Case{Name: "b", Seed: 5}); x != y || x == a {
		t.Errorf("the same seed: %#x, %#x; by name %#x", x, y, a)
	}
}
