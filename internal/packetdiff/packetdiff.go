// Package packetdiff says how two packets differ, by layer and field as gopacket decodes them. It is for messages of tests: what it cannot
// decode it shows as bytes.
package packetdiff

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Start is what a packet begins with.
type Start int

// What packets begin with.
const (
	Ethernet Start = iota
	IP             // version 4 or 6
)

// span is bytes [from, to) of a packet.
type span struct{ from, to int }

// layer is one layer of a packet and where it stands.
type layer struct {
	typ  gopacket.LayerType
	span // its header
	data []byte
}

// Diff describes the difference of two packets, a line each; nil if there is none.
//
//	IPv4.TTL: got 63, want 64 (byte 22)
func Diff(start Start, got, want []byte) []string {
	if string(got) == string(want) {
		return nil
	}
	var out []string
	if len(got) != len(want) {
		out = append(out, fmt.Sprintf("length: got %d bytes, want %d", len(got), len(want)))
	}
	g, w := decode(start, got), decode(start, want)
	if a, b := chain(g), chain(w); a != b {
		out = append(out, fmt.Sprintf("layers: got %s, want %s", a, b))
	}
	for i := range w {
		if i >= len(g) || g[i].typ != w[i].typ || g[i].span != w[i].span {
			return append(out, rest(got, want, w[i].from)...)
		}
		out = append(out, layerDiff(g[i], w[i])...)
	}
	end := 0
	if len(w) > 0 {
		end = w[len(w)-1].to
	}
	return append(out, rest(got, want, end)...)
}

// rest shows the bytes that differ from some place on, which are nobody's header.
func rest(got, want []byte, from int) []string {
	if from > len(got) || from > len(want) || string(got[from:]) == string(want[from:]) {
		return nil
	}
	return hexDiff("data", got[from:], want[from:], from)
}

// decode finds the layers of a packet, without data that belongs to none. What does not decode ends them.
func decode(start Start, b []byte) []layer {
	first := layers.LayerTypeEthernet
	if start == IP {
		first = layers.LayerTypeIPv4
		if len(b) > 0 && b[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	p := gopacket.NewPacket(b, first, gopacket.DecodeOptions{NoCopy: true})
	var all []layer
	at := 0
	for _, l := range p.Layers() {
		typ := l.LayerType()
		if typ == gopacket.LayerTypePayload || typ == gopacket.LayerTypeDecodeFailure || typ == gopacket.LayerTypeFragment {
			break
		}
		n := len(l.LayerContents())
		if at+n > len(b) {
			break
		}
		all = append(all, layer{typ, span{at, at + n}, b[at : at+n]})
		at += n
	}
	return all
}

// chain names the layers: Ethernet/IPv4/UDP.
func chain(all []layer) string {
	var names []string
	for _, l := range all {
		names = append(names, l.typ.String())
	}
	if len(names) == 0 {
		return "nothing known"
	}
	return strings.Join(names, "/")
}

// field is a part of a header by its name in gopacket, and where it differs.
type field struct {
	name  string
	bytes []int
}

// layerDiff describes how two headers of a layer differ. Which bytes a field is in gopacket does not say; it is found by putting the bytes
// of one header into the other, one at a time.
func layerDiff(got, want layer) []string {
	if string(got.data) == string(want.data) {
		return nil
	}
	before, after := fields(want.typ, want.data), fields(got.typ, got.data)
	if before == nil || after == nil {
		return hexDiff(want.typ.String(), got.data, want.data, want.from)
	}
	var changed []*field
	for i := range before {
		if before[i] != after[i] {
			changed = append(changed, &field{name: before[i].name})
		}
	}
	for i := range want.data {
		if got.data[i] == want.data[i] {
			continue
		}
		mixed := slices.Clone(want.data)
		mixed[i] = got.data[i]
		found := false
		for k, f := range fields(want.typ, mixed) {
			if j := slices.IndexFunc(changed, func(c *field) bool { return c.name == f.name }); j >= 0 && k < len(before) && f != before[k] {
				changed[j].bytes = append(changed[j].bytes, want.from+i)
				found = true
			}
		}
		if !found { // no field shows it
			return append(describe(want.typ, changed, before, after), hexDiff(want.typ.String(), got.data, want.data, want.from)...)
		}
	}
	return describe(want.typ, changed, before, after)
}

// describe writes the lines of fields.
func describe(typ gopacket.LayerType, changed []*field, want, got []value) []string {
	var out []string
	for _, f := range changed {
		i := slices.IndexFunc(want, func(v value) bool { return v.name == f.name })
		out = append(out, fmt.Sprintf("%s.%s: got %s, want %s%s", typ, f.name, got[i].text, want[i].text, places(f.bytes)))
	}
	return out
}

// places lists bytes: " (bytes 24 to 25)".
func places(at []int) string {
	switch n := len(at); {
	case n == 0:
		return ""
	case n == 1:
		return fmt.Sprintf(" (byte %d)", at[0])
	case at[n-1]-at[0] == n-1:
		return fmt.Sprintf(" (bytes %d to %d)", at[0], at[n-1])
	}
	s := " (bytes "
	for i, b := range at {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprint(b)
	}
	return s + ")"
}

// value is a field of a header and its text.
type value struct{ name, text string }

// fields decodes one header alone and lists what is in it, nil if it does not decode.
func fields(typ gopacket.LayerType, header []byte) (all []value) {
	defer func() {
		if recover() != nil { // a decoder that trusts what is behind the header
			all = nil
		}
	}()
	p := gopacket.NewPacket(header, typ, gopacket.DecodeOptions{NoCopy: true})
	l := p.Layer(typ)
	if l == nil {
		return nil
	}
	v := reflect.Indirect(reflect.ValueOf(l))
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Anonymous || f.Name == "Contents" || f.Name == "Payload" {
			continue
		}
		all = append(all, value{f.Name, text(f.Name, v.Field(i))})
	}
	return all
}

// text writes a field as its kind is usually written.
func text(name string, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case fmt.Stringer:
		return x.String()
	case []byte:
		return fmt.Sprintf("% x", x)
	}
	if strings.Contains(name, "Checksum") && v.CanUint() {
		return fmt.Sprintf("%#04x", v.Uint())
	}
	return fmt.Sprint(v.Interface())
}

// hexWidth is how many bytes a line of a dump has.
const hexWidth = 16

// maxDump is how many differing lines a dump shows.
const maxDump = 16

// hexDiff dumps the lines in which two pieces of a packet differ; base is where they begin in it.
func hexDiff(what string, got, want []byte, base int) []string {
	var out []string
	shown := 0
	for i := 0; i < max(len(got), len(want)); i += hexWidth {
		g, w := piece(got, i), piece(want, i)
		if string(g) == string(w) {
			continue
		}
		if shown++; shown > maxDump {
			out = append(out, fmt.Sprintf("%s: and more", what))
			break
		}
		out = append(out, fmt.Sprintf("%s at byte %d:\n    got  % x\n    want % x\n         %s", what, base+i, g, w, marks(g, w)))
	}
	return out
}

func piece(b []byte, at int) []byte {
	if at >= len(b) {
		return nil
	}
	return b[at:min(at+hexWidth, len(b))]
}

// marks points at the bytes that differ.
func marks(got, want []byte) string {
	var s strings.Builder
	for i := range max(len(got), len(want)) {
		if i < len(got) && i < len(want) && got[i] == want[i] {
			s.WriteString("   ")
		} else {
			s.WriteString("^^ ")
		}
	}
	return strings.TrimRight(s.String(), " ")
}
