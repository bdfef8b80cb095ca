// Package pcap reads packets from capture files in the classic libpcap format, of either byte order and with microseconds or
// nanoseconds. It knows nothing of what is in the packets.
package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
	magicNG    = 0x0a0d0d0a
	ethernet   = 1 // LINKTYPE_ETHERNET
	maxPacket  = 256 << 10
)

// Read returns the captured bytes of all packets. The capture must be of Ethernet frames.
func Read(r io.Reader) ([][]byte, error) {
	var h [24]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, fmt.Errorf("pcap: file header: %w", err)
	}
	var order binary.ByteOrder
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch o.Uint32(h[:]) {
		case magicMicro, magicNano:
			order = o
		case magicNG:
			return nil, errors.New("pcap: this is a pcapng file; convert it with: tcpdump -r FILE -w FILE.pcap")
		}
	}
	if order == nil {
		return nil, errors.New("pcap: not a capture file")
	}
	if link := order.Uint32(h[20:]) & 0xfffffff; link != ethernet {
		return nil, fmt.Errorf("pcap: link type %d, only Ethernet (1) is supported", link)
	}
	var packets [][]byte
	for {
		var ph [16]byte
		if _, err := io.ReadFull(r, ph[:]); err == io.EOF {
			return packets, nil
		} else if err != nil {
			return nil, fmt.Errorf("pcap: packet %d: %w", len(packets)+1, err)
		}
		n := order.Uint32(ph[8:])
		if n > maxPacket {
			return nil, fmt.Errorf("pcap: packet %d has %d bytes", len(packets)+1, n)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("pcap: packet %d: %w", len(packets)+1, err)
		}
		packets = append(packets, b)
	}
}
