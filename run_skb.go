package skep

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// struct __sk_buff (linux/bpf.h): offsets of the fields that a test run fills or takes.
const (
	skbLen         = 0
	skbPktType     = 4
	skbMark        = 8
	skbProtocol    = 16
	skbPriority    = 32
	skbIngress     = 36
	skbIfIndex     = 40
	skbTCIndex     = 44
	skbCB          = 48
	skbHash        = 68
	skbFamily      = 88
	skbRemoteIP4   = 92
	skbLocalIP4    = 96
	skbRemoteIP6   = 100
	skbLocalIP6    = 116
	skbTstamp      = 152
	skbWireLen     = 160
	skbGSOSegs     = 164
	skbSk          = 168
	skbGSOSize     = 176
	skbGSOSizeEnd  = 180
	skbHwtstamp    = 184
	skbSize        = 192
	maxGSOSegs     = 65535
	maxGSOSize     = 65536
	afINET         = 2
	afINET6        = 10
	ethPIP         = 0x0800
	ethPIPv6       = 0x86dd
	ethP8023Min    = 0x0600
	ethP8023       = 0x0001
	ethP8022       = 0x0004
	pktHost        = 0
	pktMulticast   = 2
	pktOtherHost   = 3
	ipv4SrcOff     = 12
	ipv4DstOff     = 16
	ipv6SrcOff     = 8
	ipv6DstOff     = 24
	ipv4HeaderSize = 20
	ipv6HeaderSize = 40
)

// span is a range of bytes of the context.
type span struct{ from, to int }

// zeroSpans are the parts of a given context that must be zero: what a test run cannot set.
var zeroSpans = []span{
	{skbLen, skbMark}, {skbMark + 4, skbPriority}, {skbTCIndex, skbCB}, {skbHash, skbTstamp}, {skbSk, skbGSOSize},
	{skbGSOSizeEnd, skbHwtstamp},
}

// isL2 reports whether programs of type t see the packet from its Ethernet header on; others see it from its network header
// on, and their output has zeros for the Ethernet header.
func isL2(t ebpf.ProgramType) bool {
	return t == ebpf.SchedCLS || t == ebpf.SchedACT
}

func (p *Program) setUpSKB(r *rt.Run, f *frame, opts *ebpf.RunOptions) error {
	if len(opts.Data) < ethHeader || len(opts.Data) > maxPacket {
		return invalid("packet of %d bytes, %s programs take %d to %d", len(opts.Data), p.prog.Type, ethHeader, maxPacket)
	}
	if err := checkIPHeader(opts.Data); err != nil {
		return err
	}
	b := f.ctx.Bytes()
	given, err := loadContext(b, opts, skbSize)
	if err != nil {
		return err
	}
	f.putPacket(r, opts.Data, headroom)
	clear(f.pkt.Bytes()[:headroom]) // legacy loads at negative offsets reach there
	f.packet.NetOff, f.packet.End = ethHeader, f.pkt.Addr()+pktRegion
	if !isL2(p.prog.Type) {
		f.packet.Data += ethHeader
		f.packet.Meta = f.packet.Data
		f.packet.NetOff = 0
	}
	length := uint32(f.packet.DataEnd - f.packet.Data)
	if given || opts.ContextOut != nil {
		if err := checkSKB(b, length); err != nil {
			return err
		}
	}
	put32(b[skbLen:], length)
	fillFromEthernet(b, opts.Data)
	if get32(b[skbIfIndex:]) == 0 {
		put32(b[skbIfIndex:], loopback)
	}
	f.putPointers()
	f.putSocket(r)
	return nil
}

// The socket that a test run gives a packet: struct bpf_sock (linux/bpf.h), of which programs only read. It lies behind the context.
const (
	socketAt      = 1024
	socketSize    = 80
	socketFamily  = 4
	socketSrcIP4  = 24
	socketSrcIP6  = 28
	socketDstIP4  = 52
	socketDstIP6  = 56
	socketState   = 72
	socketRxQueue = 76
	tcpClose      = 7
)

// putSocket makes the packet's socket: a closed one with the packet's addresses, as the kernel's test run does.
func (f *frame) putSocket(r *rt.Run) {
	b := f.ctx.Bytes()
	s := b[socketAt : socketAt+socketSize]
	clear(s)
	put32(s[socketFamily:], get32(b[skbFamily:]))
	put32(s[socketSrcIP4:], get32(b[skbLocalIP4:]))
	put32(s[socketDstIP4:], get32(b[skbRemoteIP4:]))
	copy(s[socketSrcIP6:], b[skbLocalIP6:skbLocalIP6+16])
	copy(s[socketDstIP6:], b[skbRemoteIP6:skbRemoteIP6+16])
	put32(s[socketState:], tcpClose)
	put32(s[socketRxQueue:], ^uint32(0)) // none
	addr := uint64(f.ctx.Addr()) + socketAt
	put64(b[skbSk:], addr)
	r.AddMem(rt.Region{Base: addr, Size: socketSize, ReadOnly: true, Name: "socket"})
}

// checkIPHeader refuses packets that say they are IP and are too short for its header.
func checkIPHeader(pkt []byte) error {
	n := len(pkt) - ethHeader
	switch binary.BigEndian.Uint16(pkt[12:]) {
	case ethPIP:
		if n < ipv4HeaderSize {
			return invalid("packet of %d bytes is too short for its IPv4 header", len(pkt))
		}
	case ethPIPv6:
		if n < ipv6HeaderSize {
			return invalid("packet of %d bytes is too short for its IPv6 header", len(pkt))
		}
	}
	return nil
}

// checkSKB refuses contexts with fields that a test run cannot set (convert___skb_to_skb).
func checkSKB(b []byte, length uint32) error {
	for _, s := range zeroSpans {
		for i := s.from; i < s.to; i++ {
			if b[i] != 0 {
				return invalid("context: the field at offset %d cannot be set", i&^3)
			}
		}
	}
	wire, segs, size := get32(b[skbWireLen:]), get32(b[skbGSOSegs:]), get32(b[skbGSOSize:])
	switch {
	case wire == 0:
		put32(b[skbWireLen:], length)
	case wire < length || wire > maxGSOSize:
		return invalid("context: wire_len is %d, the packet has %d bytes", wire, length)
	}
	if segs > maxGSOSegs || size > maxGSOSize {
		return invalid("context: gso_segs is %d, gso_size %d", segs, size)
	}
	return nil
}

// fillFromEthernet sets what the kernel finds in the Ethernet header and the header behind it.
func fillFromEthernet(b, pkt []byte) {
	put32(b[skbPktType:], pktType(pkt[:6]))
	proto := binary.BigEndian.Uint16(pkt[12:])
	payload := pkt[ethHeader:]
	if proto < ethP8023Min {
		proto = ethP8022
		if len(payload) >= 2 && payload[0] == 0xff && payload[1] == 0xff {
			proto = ethP8023
		}
	}
	// A big-endian 16-bit field, read as 32 bits by programs.
	var raw [2]byte
	binary.BigEndian.PutUint16(raw[:], proto)
	put32(b[skbProtocol:], uint32(binary.NativeEndian.Uint16(raw[:])))
	switch {
	case proto == ethPIP:
		put32(b[skbFamily:], afINET)
		copy(b[skbLocalIP4:skbLocalIP4+4], payload[ipv4SrcOff:])
		copy(b[skbRemoteIP4:skbRemoteIP4+4], payload[ipv4DstOff:])
	case proto == ethPIPv6:
		put32(b[skbFamily:], afINET6)
		copy(b[skbLocalIP6:skbLocalIP6+16], payload[ipv6SrcOff:])
		copy(b[skbRemoteIP6:skbRemoteIP6+16], payload[ipv6DstOff:])
	}
}

// pktType compares the destination with the loopback interface's address, which is all zeros. Its broadcast address is too,
// so that the usual one counts as multicast.
func pktType(dst []byte) uint32 {
	switch {
	case [6]byte(dst) == [6]byte{}:
		return pktHost
	case dst[0]&1 != 0:
		return pktMulticast
	}
	return pktOtherHost
}

// skbOut are the fields that a context gets back.
var skbOut = []span{
	{skbMark, skbMark + 4}, {skbPriority, skbIngress}, {skbIngress, skbIfIndex}, {skbIfIndex, skbTCIndex}, {skbCB, skbHash},
	{skbTstamp, skbWireLen}, {skbWireLen, skbGSOSegs}, {skbGSOSegs, skbSk}, {skbGSOSize, skbGSOSizeEnd}, {skbHwtstamp, skbSize},
}

func finishSKB(p *Program, _ *rt.Run, f *frame, opts *ebpf.RunOptions, out *[]byte) error {
	start := f.packet.Data
	if !isL2(p.prog.Type) {
		start -= ethHeader
		clear(f.pkt.Bytes()[start-f.packet.Head:][:ethHeader])
	}
	if opts.ContextOut != nil {
		var b [skbSize]byte
		for _, s := range skbOut {
			copy(b[s.from:s.to], f.ctx.Bytes()[s.from:])
		}
		if err := storeContext(b[:], opts); err != nil {
			return err
		}
	}
	if start < f.packet.Head {
		return fmt.Errorf("program %s: packet starts in front of its buffer: %w", p.name, errno.EFAULT)
	}
	return f.copyOut(start, opts, out)
}
