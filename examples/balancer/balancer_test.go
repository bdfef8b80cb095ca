// Package balancer is an example: an XDP load balancer (bpf/balancer.c) with its unit tests, which need no kernel, no interfaces and no root.
// The object is the one that would be loaded into the kernel.
package balancer

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/skeptest"
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

var suite = skeptest.Suite{
	Object:  object,
	Engines: []skep.Engine{skep.EngineAuto, skep.EngineInterpreter},
}

// packet is an Ethernet frame of TCP, UDP or, for other protocols, of neither; change is called before it is made.
func packet(proto layers.IPProtocol, dst string, port uint16, change func(eth *layers.Ethernet, ip *layers.IPv4)) []byte {
	eth := &layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xff}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.ParseIP(dst).To4()}
	if change != nil {
		change(eth, ip)
	}
	parts := []gopacket.SerializableLayer{eth, ip}
	switch proto {
	case layers.IPProtocolTCP:
		l4 := &layers.TCP{SrcPort: 1, DstPort: layers.TCPPort(port)}
		_ = l4.SetNetworkLayerForChecksum(ip)
		parts = append(parts, l4)
	case layers.IPProtocolUDP:
		l4 := &layers.UDP{SrcPort: 1, DstPort: layers.UDPPort(port)}
		_ = l4.SetNetworkLayerForChecksum(ip)
		parts = append(parts, l4)
	}
	b := gopacket.NewSerializeBuffer()
	parts = append(parts, gopacket.Payload("skep test, of an odd length, which checksums have to bear"))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// to says that a packet goes to a backend: from the balancer's own address.
func to(id, n byte) func(*layers.Ethernet, *layers.IPv4) {
	return func(eth *layers.Ethernet, _ *layers.IPv4) {
		eth.SrcMAC, eth.DstMAC = eth.DstMAC, net.HardwareAddr{2, 0, 0, 0, id, n}
	}
}

// backends are so many of a service, 10.0.ID.N; to port and following ones, or to the same if that is 0.
func backends(id byte, n int, port uint16) (all []ebpf.MapKV) {
	for i := range n {
		b := backend{Addr: [4]byte{10, 0, id, byte(i + 1)}, MAC: [6]byte{2, 0, 0, 0, id, byte(i)}}
		if port != 0 {
			b.Port = [2]byte{byte((port + uint16(i)) >> 8), byte(port + uint16(i))}
		}
		all = append(all, ebpf.MapKV{Key: i, Value: b})
	}
	return all
}

// network is the key of a service's addresses.
func network(s string) prefix {
	p := netip.MustParsePrefix(s)
	return prefix{uint32(p.Bits()), p.Addr().As4()}
}

const tcp, udp, icmp = layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4

var protocols = []ebpf.MapKV{{Key: 6, Value: "tcp"}, {Key: 17, Value: "udp"}}

// config is two services, and a third whose backends are not there.
var config = skeptest.Maps{
	"protocols": protocols,
	"services": {
		{Key: network("198.51.100.0/24"), Value: service{1, 1}},
		{Key: network("198.51.100.7/32"), Value: service{2, 1}},
		{Key: network("11.0.0.0/8"), Value: service{9, 1}},
	},
	"backends": {{Key: 1, Value: backends(1, 1, 0)}, {Key: 2, Value: backends(2, 1, 8080)}},
}

// TestCases: what comes in, what goes out, checksums included.
func TestCases(t *testing.T) {
	forwarded := []skeptest.Case{
		{Name: "TCP to a service", Packet: packet(tcp, "198.51.100.1", 443, nil), WantPacket: packet(tcp, "10.0.1.1", 443, to(1, 0))},
		{Name: "UDP to a service", Packet: packet(udp, "198.51.100.255", 443, nil), WantPacket: packet(udp, "10.0.1.1", 443, to(1, 0))},
		{
			Name: "the longest prefix counts, another port", Packet: packet(tcp, "198.51.100.7", 443, nil), WantPacket: packet(tcp, "10.0.2.1", 8080, to(2, 0)),
		},
	}
	passed := []skeptest.Case{
		{Name: "nobody's address", Packet: packet(tcp, "203.0.113.1", 443, nil)},
		{Name: "a service without backends", Packet: packet(tcp, "11.1.1.1", 443, nil)},
		{Name: "ICMP", Packet: packet(icmp, "198.51.100.1", 0, nil)},
		{Name: "a fragment", Packet: packet(tcp, "198.51.100.1", 443, func(_ *layers.Ethernet, ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments })},
		{Name: "IP options", Packet: packet(tcp, "198.51.100.1", 443, func(_ *layers.Ethernet, ip *layers.IPv4) {
			ip.Options = []layers.IPv4Option{{OptionType: 1}}
		})},
		{Name: "IPv6", Packet: packet(tcp, "198.51.100.1", 443, func(eth *layers.Ethernet, _ *layers.IPv4) { eth.EthernetType = layers.EthernetTypeIPv6 })},
	}
	cases := []skeptest.Case{{Name: "cut short", Packet: packet(tcp, "198.51.100.1", 443, nil)[:14+20+4], Want: skeptest.XDPDrop}}
	for _, c := range forwarded {
		c.Want = skeptest.XDPTx
		cases = append(cases, c)
	}
	for _, c := range passed {
		c.Want, c.WantPacket = skeptest.XDPPass, c.Packet
		cases = append(cases, c)
	}
	for i := range cases {
		cases[i].Program, cases[i].MapsBefore = "balancer", config
	}
	suite.Run(t, cases)
}

// TestConnectionsStay: a connection always meets the same backend, and many connections meet them all.
func TestConnectionsStay(t *testing.T) {
	const n = 4
	maps := skeptest.Maps{
		"protocols": protocols,
		"services":  {{Key: network("198.51.100.0/24"), Value: service{3, n}}}, "backends": {{Key: 3, Value: backends(3, n, 0)}},
	}
	suite.Run(t, []skeptest.Case{{Name: "400 connections", Program: "balancer", MapsBefore: maps, AnyReturn: true, Check: func(c *skep.Collection, _ skep.RunResult) error {
		met := map[byte]uint64{}
		p := packet(udp, "198.51.100.1", 443, nil)
		for port := range 400 {
			p[34], p[35], p[40], p[41] = byte(port>>8), byte(port), 0, 0 // the port it comes from; no checksum
			_, first, err := c.Programs["balancer"].Test(p)
			if err != nil {
				return err
			}
			if _, again, err := c.Programs["balancer"].Test(p); err != nil || !bytes.Equal(first, again) {
				return fmt.Errorf("port %d: not the same backend, %v", port, err)
			}
			met[first[14+19]-1] += 2
		}
		var inner *skep.Map
		if err := c.Maps["backends"].Lookup(uint32(3), &inner); err != nil {
			return err
		}
		defer inner.Close()
		for i := range uint32(n) {
			var b backend
			if err := inner.Lookup(i, &b); err != nil || b.Packets < 100 || b.Packets != met[byte(i)] {
				return fmt.Errorf("backend %d counted %d packets, %v: %v", i, b.Packets, err, met)
			}
		}
		return nil
	}}})
}

// TestReplaced: a service's backends are replaced at once, by another map, whose counters begin anew.
func TestReplaced(t *testing.T) {
	counted := func(all []ebpf.MapKV) []ebpf.MapKV {
		b := all[0].Value.(backend)
		b.Packets = 1
		return []ebpf.MapKV{{Key: 0, Value: b}}
	}
	in := packet(udp, "198.51.100.1", 443, nil)
	suite.Run(t, []skeptest.Case{{
		Name: "replaced", Program: "balancer", Packet: in, Want: skeptest.XDPTx, WantPacket: packet(udp, "10.0.4.1", 443, to(4, 0)),
		MapsBefore: skeptest.Maps{
			"protocols": protocols,
			"services":  {{Key: network("198.51.100.0/24"), Value: service{4, 1}}}, "backends": {{Key: 4, Value: backends(4, 1, 0)}},
		},
		MapsAfter: skeptest.Maps{"backends": {{Key: 4, Value: counted(backends(4, 1, 0))}}},
		Then: []skeptest.Case{{
			Packet: in, Want: skeptest.XDPTx, WantPacket: packet(udp, "10.0.4.1", 9000, to(4, 0)),
			MapsBefore: skeptest.Maps{"backends": {{Key: 4, Value: backends(4, 1, 9000)}}},
			MapsAfter:  skeptest.Maps{"backends": {{Key: 4, Value: counted(backends(4, 1, 9000))}}},
		}},
	}})
}
