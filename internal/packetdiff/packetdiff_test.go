package packetdiff

import (
	"encoding/hex"
	"strings"
	"testing"
)

// udp is an Ethernet frame with IPv4, UDP and five bytes of data.
func udp() []byte {
	b, err := hex.DecodeString("02000000000202000000000108004500002100010000401126aec000020ac6336401" + "1000003500130000" + "68656c6c6f")
	if err != nil {
		panic(err)
	}
	return b
}

func TestDiff(t *testing.T) {
	change := func(f func(b []byte) []byte) []byte { return f(udp()) }
	set := func(kv ...byte) []byte {
		b := udp()
		for i := 0; i < len(kv); i += 2 {
			b[kv[i]] = kv[i+1]
		}
		return b
	}
	for _, c := range []struct {
		name string
		got  []byte
		want []string
	}{
		{"nothing", udp(), nil},
		{"one field", set(22, 63), []string{"IPv4.TTL: got 63, want 64 (byte 22)"}},
		{"two layers", set(22, 63, 24, 0x27, 36, 1), []string{
			"IPv4.TTL: got 63, want 64 (byte 22)", "IPv4.Checksum: got 0x27ae, want 0x26ae (byte 24)", "UDP.DstPort: got 309(entrusttime), want 53(domain) (byte 36)",
		}},
		{"addresses", set(0, 6, 5, 9, 30, 10, 31, 0), []string{
			"Ethernet.DstMAC: got 06:00:00:00:00:09, want 02:00:00:00:00:02 (bytes 0, 5)",
			"IPv4.DstIP: got 10.0.100.1, want 198.51.100.1 (bytes 30 to 31)",
		}},
		{"data", set(42, 'j'), []string{"data at byte 42:\n    got  6a 65 6c 6c 6f\n    want 68 65 6c 6c 6f\n         ^^"}},
		{"another protocol", set(23, 6), []string{
			"layers: got Ethernet/IPv4/TCP, want Ethernet/IPv4/UDP", "IPv4.Protocol: got TCP, want UDP (byte 23)",
		}},
		{"shorter", change(func(b []byte) []byte { return b[:44] }), []string{
			"length: got 44 bytes, want 47", "data at byte 42:\n    got  68 65\n    want 68 65 6c 6c 6f\n               ^^ ^^ ^^",
		}},
		{"no header at all", []byte{1, 2}, []string{
			"length: got 2 bytes, want 47", "layers: got nothing known, want Ethernet/IPv4/UDP",
			"data at byte 0:\n    got  01 02\n    want 02 00 00 00 00 02 02 00 00 00 00 01 08 00 45 00\n         " + strings.TrimSpace(strings.Repeat("^^ ", 16)),
			"data at byte 16:\n    got  \n    want 00 21 00 01 00 00 40 11 26 ae c0 00 02 0a c6 33\n         " + strings.TrimSpace(strings.Repeat("^^ ", 16)),
			"data at byte 32:\n    got  \n    want 64 01 10 00 00 35 00 13 00 00 68 65 6c 6c 6f\n         " + strings.TrimSpace(strings.Repeat("^^ ", 15)),
		}},
	} {
		if got, want := strings.Join(Diff(Ethernet, c.got, udp()), "\n"), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, want)
		}
	}
	if got := Diff(IP, set(22, 63)[14:], udp()[14:]); len(got) != 1 || got[0] != "IPv4.TTL: got 63, want 64 (byte 8)" {
		t.Errorf("from the IP header on: %q", got)
	}
}

// FuzzDiff: packets of any bytes are described, and only equal ones by nothing.
func FuzzDiff(f *testing.F) {
	f.Add(udp(), udp()[:30], false)
	f.Add(udp()[14:], []byte{0x60, 1, 2}, true)
	f.Fuzz(func(t *testing.T, a, b []byte, ip bool) {
		start := Ethernet
		if ip {
			start = IP
		}
		if d := Diff(start, a, b); (len(d) == 0) != (string(a) == string(b)) {
			t.Errorf("% x\n% x\n%q", a, b, d)
		}
	})
}
