package pcap

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func capture(o binary.AppendByteOrder, magic, link uint32, packets ...string) []byte {
	b := o.AppendUint32(nil, magic)
	b = append(b, make([]byte, 16)...)
	b = o.AppendUint32(b, link)
	for _, p := range packets {
		b = append(b, make([]byte, 8)...)
		b = o.AppendUint32(b, uint32(len(p)))
		b = o.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func TestRead(t *testing.T) {
	want := [][]byte{[]byte("first packet"), []byte("second")}
	for _, o := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, magic := range []uint32{magicMicro, magicNano} {
			got, err := Read(bytes.NewReader(capture(o, magic, 1, "first packet", "second")))
			if err != nil || cmp.Diff(want, got) != "" {
				t.Errorf("%v: %q, %v", o, got, err)
			}
		}
	}
	good := capture(binary.LittleEndian, magicMicro, 1, "packet")
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint32(huge[32:], 1<<31)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("this is no capture file at all"), "cut": good[:len(good)-1], "header cut": good[:30], "huge": huge,
		"link": capture(binary.LittleEndian, magicMicro, 101, "packet"), "ng": capture(binary.LittleEndian, magicNG, 1),
	} {
		if _, err := Read(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
