// Package balancer is an example: an XDP load balancer (bpf/balancer.c) with its unit tests, which need no kernel, no interfaces and no root.
// The object is the one that would be loaded into the kernel.
package balancer

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

//go:embed bpf/balancer.o
var object []byte

// The structures of balancer.c.
type (
	prefix struct {
		Bits uint32
		Addr [4]byte
	}
	service struct{ ID, Backends uint32 }
	backend struct {
		Addr    [4]byte
		MAC     [6]byte
		Port    [2]byte
		_       [4]byte
		Packets uint64
	}
)

const (
	drop, pass, tx = 1, 2, 3 // XDP_DROP, XDP_PASS, XDP_TX
	tcp, udp       = 6, 17
)

// lb is the balancer on one engine.
type lb struct {
	t       *testing.T
	coll    *skep.Collection
	program *skep.Program
}

// each runs f on every engine.
func each(t *testing.T, f func(t *testing.T, l *lb)) {
	for _, e := range []skep.Engine{skep.EngineAuto, skep.EngineInterpreter} {
		t.Run(e.String(), func(t *testing.T) {
			spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(object))
			if err != nil {
				t.Fatal(err)
			}
			coll, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			t.Cleanup(coll.Close)
			l := &lb{t, coll, coll.Programs["balancer"]}
			for proto, name := range map[uint32]string{tcp: "tcp", udp: "udp"} {
				l.put("protocols", proto, coll.Programs[name])
			}
			f(t, l)
		})
	}
}

func (l *lb) put(m string, key, value any) {
	l.t.Helper()
	if err := l.coll.Maps[m].Put(key, value); err != nil {
		l.t.Fatalf("%s: %v", m, err)
	}
}

// service makes a service of addresses with so many backends, 10.0.ID.N to port 80 + N, or to the same if that is 0.
func (l *lb) service(id uint32, addrs string, n int, port uint16) *skep.Map {
	l.t.Helper()
	p := netip.MustParsePrefix(addrs)
	inner, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 24, MaxEntries: 16})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { inner.Close() })
	for i := range n {
		b := backend{Addr: [4]byte{10, 0, byte(id), byte(i + 1)}, MAC: [6]byte{2, 0, 0, 0, byte(id), byte(i)}}
		if port != 0 {
			binary.BigEndian.PutUint16(b.Port[:], port+uint16(i))
		}
		if err := inner.Put(uint32(i), b); err != nil {
			l.t.Fatal(err)
		}
	}
	l.put("backends", id, inner)
	l.put("services", prefix{uint32(p.Bits()), p.Addr().As4()}, service{id, uint32(n)})
	return inner
}

// packet is an IPv4 packet with correct checksums, whose source port is from.
func packet(proto byte, dst string, from uint16) []byte {
	p := make([]byte, 14+20+20+9) // an odd length, which checksums have to bear
	copy(p, "\x02\x00\x00\x00\x00\xff\x02\x00\x00\x00\x00\x01\x08\x00")
	ip := p[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{192, 0, 2, 1})
	a := netip.MustParseAddr(dst).As4()
	copy(ip[16:], a[:])
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip[:20], 0))
	l4 := ip[20:]
	binary.BigEndian.PutUint16(l4, from)
	binary.BigEndian.PutUint16(l4[2:], 443)
	copy(l4[20:], "skep test")
	at := 16
	if proto == udp {
		at = 6
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	binary.BigEndian.PutUint16(l4[at:], ^l4sum(ip))
	return p
}

// sum adds up b as an Internet checksum does.
func sum(b []byte, start uint32) uint16 {
	s := start
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i]) << 8
		if i+1 < len(b) {
			s += uint32(b[i+1])
		}
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// l4sum adds up what a TCP or UDP checksum covers: 0xffff if the checksum is in it and right.
func l4sum(ip []byte) uint16 {
	l4 := ip[20:]
	return sum(l4, uint32(sum(ip[12:20], uint32(ip[9])+uint32(len(l4)))))
}

// send runs a packet and checks that what comes out is in order.
func (l *lb) send(p []byte) (verdict uint32, out []byte) {
	l.t.Helper()
	verdict, out, err := l.program.Test(p)
	if err != nil {
		l.t.Fatal(err)
	}
	if ip := out[14:]; verdict == tx && (sum(ip[:20], 0) != 0xffff || l4sum(ip) != 0xffff) {
		l.t.Errorf("checksums are wrong: %#x, %#x", sum(ip[:20], 0), l4sum(ip))
	}
	return verdict, out
}

// TestCases: what comes in, what goes out.
func TestCases(t *testing.T) {
	each(t, func(t *testing.T, l *lb) {
		l.service(1, "198.51.100.0/24", 1, 0)
		l.service(2, "198.51.100.7/32", 1, 8080)
		l.put("services", prefix{8, [4]byte{11}}, service{9, 1}) // whose backends are not there
		fragment := packet(tcp, "198.51.100.1", 1)
		fragment[14+6] = 0x20
		options := packet(tcp, "198.51.100.1", 1)
		options[14] = 0x46
		ipv6 := packet(tcp, "198.51.100.1", 1)
		ipv6[12], ipv6[13] = 0x86, 0xdd
		for _, c := range []struct {
			name    string
			in      []byte
			verdict uint32
			addr    string // of what comes out
			port    uint16
		}{
			{"TCP to a service", packet(tcp, "198.51.100.1", 1), tx, "10.0.1.1", 443},
			{"UDP to a service", packet(udp, "198.51.100.255", 1), tx, "10.0.1.1", 443},
			{"the longest prefix counts, another port", packet(tcp, "198.51.100.7", 1), tx, "10.0.2.1", 8080},
			{"nobody's address", packet(tcp, "203.0.113.1", 1), pass, "203.0.113.1", 443},
			{"a service without backends", packet(tcp, "11.1.1.1", 1), pass, "11.1.1.1", 443},
			{"ICMP", packet(1, "198.51.100.1", 1), pass, "198.51.100.1", 443},
			{"a fragment", fragment, pass, "198.51.100.1", 443},
			{"IP options", options, pass, "198.51.100.1", 443},
			{"IPv6", ipv6, pass, "198.51.100.1", 443},
		} {
			verdict, out := l.send(c.in)
			ip := out[14:]
			if got := netip.AddrFrom4([4]byte(ip[16:20])).String(); verdict != c.verdict || got != c.addr || binary.BigEndian.Uint16(ip[22:]) != c.port {
				t.Errorf("%s: %d, to %s:%d; want %d, to %s:%d", c.name, verdict, got, binary.BigEndian.Uint16(ip[22:]), c.verdict, c.addr, c.port)
			}
			if c.verdict == pass && !bytes.Equal(out, c.in) {
				t.Errorf("%s: changed", c.name)
			}
		}
		if verdict, _ := l.send(packet(tcp, "198.51.100.1", 1)[:14+20+4]); verdict != drop {
			t.Errorf("a packet cut short: %d", verdict)
		}
	})
}

// TestConnectionsStay: a connection always meets the same backend, and many connections meet them all.
func TestConnectionsStay(t *testing.T) {
	each(t, func(t *testing.T, l *lb) {
		inner := l.service(3, "198.51.100.0/24", 4, 0)
		met := map[string]int{}
		for port := range uint16(400) {
			_, first := l.send(packet(tcp, "198.51.100.1", 1000+port))
			_, again := l.send(packet(tcp, "198.51.100.1", 1000+port))
			if !bytes.Equal(first, again) {
				t.Fatalf("port %d: not the same backend", port)
			}
			met[fmt.Sprint(netip.AddrFrom4([4]byte(first[14+16:])))]++
		}
		if len(met) != 4 {
			t.Errorf("backends met: %v", met)
		}
		total := uint64(0)
		for i := range uint32(4) {
			var b backend
			if err := inner.Lookup(i, &b); err != nil {
				t.Fatal(err)
			}
			if share := int(b.Packets); share < 100 || share != 2*met[fmt.Sprint(netip.AddrFrom4(b.Addr))] {
				t.Errorf("backend %d counted %d packets: %v", i, share, met)
			}
			total += b.Packets
		}
		if total != 800 {
			t.Errorf("%d packets counted", total)
		}
	})
}

// TestReplaced: a service's backends are replaced at once, by another map.
func TestReplaced(t *testing.T) {
	each(t, func(t *testing.T, l *lb) {
		l.service(4, "198.51.100.0/24", 2, 0)
		l.send(packet(udp, "198.51.100.1", 5))
		l.service(4, "198.51.100.0/24", 1, 9000)
		if _, out := l.send(packet(udp, "198.51.100.1", 5)); binary.BigEndian.Uint16(out[14+22:]) != 9000 {
			t.Errorf("still the old ones: % x", out[14:])
		}
	})
}
