package skeptest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/btfvalue"
	"github.com/skep-bpf/skep/internal/pcap"
)

// binder makes cases of an archive, by the types of an object.
type binder struct {
	*archive
	spec *ebpf.CollectionSpec
	dir  string
}

// typed are bytes whose type is known.
type typed struct {
	typ   btf.Type
	bytes []byte
}

func (b *binder) cases() ([]Case, error) {
	common, err := b.bind(b.suite, true)
	if err != nil {
		return nil, err
	}
	var all []Case
	for _, s := range b.archive.cases {
		c, err := b.bind(s, false)
		if err != nil {
			return nil, err
		}
		c.MapsBefore = mergeMaps(common.MapsBefore, c.MapsBefore)
		c.Consts = mergeVars(common.Consts, c.Consts)
		c.VarsBefore = mergeVars(common.VarsBefore, c.VarsBefore)
		for _, s := range s.then {
			step, err := b.bind(s, false)
			if err != nil {
				return nil, err
			}
			c.Then = append(c.Then, *step)
		}
		all = append(all, *c)
	}
	return all, nil
}

func mergeVars(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		return b
	}
	maps.Copy(out, b)
	return out
}

// bind makes a case of a section.
func (b *binder) bind(s *section, suite bool) (*Case, error) {
	c := &Case{Name: s.name}
	if _, ok := s.keys["want"]; !ok && !suite {
		return nil, b.errorf(s.at, "the case has no line \"want VERDICT\"; any return value is \"want any\"")
	}
	for _, key := range sortedKeys(s.keys) {
		if l := s.keys[key]; key != "object" {
			if err := b.key(c, key, l.text); err != nil {
				return nil, b.errorf(l.at, "%s: %w", key, err)
			}
		}
	}
	for _, name := range sortedKeys(s.files) {
		if err := b.readFile(c, name, s.files[name]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// key sets what a line of a case says.
func (b *binder) key(c *Case, key, v string) (err error) {
	number := func(to *uint32) error {
		n, err := strconv.ParseUint(v, 0, 32)
		*to = uint32(n)
		if err != nil {
			return fmt.Errorf("%q is not a number of 32 bits", v)
		}
		return nil
	}
	duration := func(to *time.Duration) error {
		if *to, err = time.ParseDuration(v); err != nil || *to < 0 {
			return fmt.Errorf("%q is not a time such as 10ms or 1h30m", v)
		}
		return nil
	}
	switch key {
	case "program":
		if c.Program = v; b.spec.Programs[v] == nil {
			return fmt.Errorf("there is no program %s; there are: %s", v, names(b.spec.Programs))
		}
	case "want":
		if v == "any" {
			c.AnyReturn = true
			return nil
		}
		c.Want, err = parseVerdict(v)
		return err
	case "redirect":
		c.WantRedirect, err = parseRedirect(v)
		return err
	case "cpu":
		return number(&c.CPU)
	case "pid":
		return number(&c.Env.PID)
	case "tgid":
		return number(&c.Env.TGID)
	case "uid":
		return number(&c.Env.UID)
	case "gid":
		return number(&c.Env.GID)
	case "comm":
		c.Env.Comm = v
	case "seed":
		if c.Seed, err = strconv.ParseUint(v, 0, 64); err != nil || c.Seed == 0 {
			return fmt.Errorf("%q is not a number of 64 bits above 0", v)
		}
	case "now":
		var d time.Duration
		err := duration(&d)
		c.Now = uint64(d)
		return err
	case "advance":
		return duration(&c.Advance)
	case "advance.after":
		return duration(&c.AdvanceAfter)
	}
	return nil
}

// parseRedirect reads "none", "IFINDEX" or "MAP KEY".
func parseRedirect(v string) (*skep.Redirect, error) {
	words := strings.Fields(v)
	last, err := strconv.ParseUint(words[len(words)-1], 0, 64)
	switch {
	case v == "none":
		return new(skep.Redirect), nil
	case len(words) == 1 && err == nil && last>>32 == 0:
		return &skep.Redirect{Set: true, IfIndex: uint32(last)}, nil
	case len(words) == 2 && err == nil:
		return &skep.Redirect{Set: true, Map: words[0], Key: last}, nil
	}
	return nil, fmt.Errorf("%q is not none, the number of an interface, or a map and a key", v)
}

// readFile reads a file of a case.
func (b *binder) readFile(c *Case, name string, all []line) (err error) {
	switch name {
	case "packet.in":
		c.Packet, err = b.packet(all)
	case "packet.out":
		c.WantPacket, err = b.packet(all)
	case "context.in":
		c.Context, err = b.context(all)
	case "context.out":
		c.WantContext, err = b.context(all)
	case "kfuncs":
		c.Kfuncs = []KfuncCall{}
		err = b.each(all, func(p *btfvalue.Parser) error {
			k, err := parseCall(p)
			c.Kfuncs = append(c.Kfuncs, k)
			return err
		})
	case "consts":
		c.Consts = map[string]any{}
		err = b.each(all, func(p *btfvalue.Parser) error {
			name, err := p.Word()
			if err != nil {
				return err
			}
			return b.variable(p, name, c.Consts)
		})
	case "maps.before":
		c.VarsBefore, c.MapsBefore = map[string]any{}, Maps{}
		err = b.each(all, func(p *btfvalue.Parser) error { return b.entry(p, c.VarsBefore, c.MapsBefore, false) })
	case "maps.after":
		c.VarsAfter, c.MapsAfter = map[string]any{}, Maps{}
		err = b.each(all, func(p *btfvalue.Parser) error { return b.entry(p, c.VarsAfter, c.MapsAfter, true) })
	}
	return err
}

// each reads lines one by one.
func (b *binder) each(all []line, f func(p *btfvalue.Parser) error) error {
	for _, l := range all {
		p := btfvalue.NewParser(l.text)
		err := f(p)
		if err == nil {
			err = p.End()
		}
		if err != nil {
			return b.errorf(l.at, "%w", err)
		}
	}
	return nil
}

// packet reads a packet: a dump in hexadecimal digits, or "@FILE.pcap NUMBER".
func (b *binder) packet(all []line) ([]byte, error) {
	if len(all) > 0 && all[0].text[0] == '@' {
		p, err := b.capture(all[0].text[1:])
		if err == nil && len(all) > 1 {
			return nil, b.errorf(all[1].at, "a line behind the name of a capture")
		}
		if err != nil {
			return nil, b.errorf(all[0].at, "%w", err)
		}
		return p, nil
	}
	packet := []byte{}
	for _, l := range all {
		bytes, err := dumpLine(l.text, len(packet))
		if err != nil {
			return nil, b.errorf(l.at, "%w", err)
		}
		packet = append(packet, bytes...)
	}
	return packet, nil
}

// capture reads a packet of a capture file, the first or that of a number from 1.
func (b *binder) capture(text string) ([]byte, error) {
	words := strings.Fields(text)
	n := 1
	if len(words) == 2 {
		var err error
		if n, err = strconv.Atoi(words[1]); err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not the number of a packet", words[1])
		}
	} else if len(words) != 1 {
		return nil, errors.New("a capture is @FILE.pcap or @FILE.pcap NUMBER")
	}
	f, err := os.Open(filepath.Join(b.dir, filepath.FromSlash(words[0])))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packets, err := pcap.Read(f)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", words[0], err)
	case n > len(packets):
		return nil, fmt.Errorf("%s has %d packets, and no packet %d", words[0], len(packets), n)
	}
	return packets[n-1], nil
}

// dumpLine reads a line of a dump: pairs of hexadecimal digits, with an offset and a colon in front of them, or not. With one, text behind
// two blanks is what the bytes are as characters (xxd, tcpdump -X); without, text behind | is (hexdump -C has no colon). at is how many
// bytes there were before.
func dumpLine(s string, at int) ([]byte, error) {
	if offset, rest, ok := strings.Cut(s, ":"); ok && !strings.Contains(offset, " ") && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
		n, err := strconv.ParseUint(strings.TrimPrefix(offset, "0x"), 16, 31)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an offset", offset)
		case int(n) != at:
			return nil, fmt.Errorf("offset %#x, but there were %#x bytes before", n, at)
		}
		s, _, _ = strings.Cut(strings.TrimSpace(rest), "  ")
	}
	s, _, _ = strings.Cut(s, "|")
	digits := strings.NewReplacer(" ", "", "\t", "", ":", "").Replace(s)
	out, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("not pairs of hexadecimal digits: %s", strings.TrimSpace(s))
	}
	return out, nil
}

// context reads a context: a dump, or a value of a type of the object, (struct NAME){...}.
func (b *binder) context(all []line) (any, error) {
	if len(all) != 1 || all[0].text[0] != '(' {
		dump, err := b.packet(all)
		return dump, err
	}
	var v *typed
	err := b.each(all, func(p *btfvalue.Parser) (err error) {
		v, err = b.cast(p)
		return err
	})
	return v, err
}

// cast reads a value with its type in front: (struct NAME){...}.
func (b *binder) cast(p *btfvalue.Parser) (*typed, error) {
	if err := p.Expect('('); err != nil {
		return nil, err
	}
	name, err := p.Word()
	if err == nil && (name == "struct" || name == "union" || name == "enum") {
		name, err = p.Word()
	}
	if err == nil {
		err = p.Expect(')')
	}
	if err != nil {
		return nil, err
	}
	if b.spec.Types == nil {
		return nil, errors.New("the object has no types (BTF)")
	}
	t, err := b.spec.Types.AnyTypeByName(name)
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", name, err)
	}
	size, err := btf.Sizeof(t)
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", name, err)
	}
	v, err := p.Value(t, size)
	return &typed{t, v}, err
}

// variable reads "= VALUE" of a variable.
func (b *binder) variable(p *btfvalue.Parser, name string, to map[string]any) error {
	v := b.spec.Variables[name]
	switch {
	case v == nil:
		return fmt.Errorf("there is no variable %s; there are: %s", name, names(b.spec.Variables))
	case to[name] != nil:
		return fmt.Errorf("variable %s is there twice", name)
	}
	if err := p.Expect('='); err != nil {
		return err
	}
	var t btf.Type
	if v.Type != nil {
		t = v.Type.Type
	}
	value, err := p.Value(t, int(v.Size()))
	to[name] = value
	return err
}

// entry reads "MAP[KEY] = VALUE", "MAP[] = VALUE", "VARIABLE = VALUE", and of what must be there "MAP is empty".
func (b *binder) entry(p *btfvalue.Parser, vars map[string]any, to Maps, after bool) error {
	name, err := p.Word()
	if err != nil {
		return err
	}
	m := b.spec.Maps[name]
	switch {
	case m == nil && p.Peek() != '[':
		return b.variable(p, name, vars)
	case m == nil:
		return fmt.Errorf("there is no map %s; there are: %s", name, names(b.spec.Maps))
	case p.Peek() != '[' && after:
		for _, want := range []string{"is", "empty"} {
			if w, err := p.Word(); err != nil || w != want {
				return fmt.Errorf("map %s: \"[KEY] = VALUE\" or \"is empty\" must follow", name)
			}
		}
		if to[name] != nil {
			return fmt.Errorf("map %s is empty, and is not", name)
		}
		to[name] = []ebpf.MapKV{}
		return nil
	case to[name] != nil && len(to[name]) == 0:
		return fmt.Errorf("map %s is empty, and is not", name)
	}
	kv, err := b.keyValue(p, m)
	to[name] = append(to[name], kv)
	return err
}

// keyValue reads "[KEY] = VALUE".
func (b *binder) keyValue(p *btfvalue.Parser, m *ebpf.MapSpec) (kv ebpf.MapKV, err error) {
	if err := p.Expect('['); err != nil {
		return kv, err
	}
	keyed := kindOf(m.Type) != keyless
	switch {
	case keyed && p.Peek() == ']':
		return kv, fmt.Errorf("the key of map %s is missing", m.Name)
	case !keyed && p.Peek() != ']':
		return kv, fmt.Errorf("map %s (%s) has no keys: write %s[] = VALUE", m.Name, m.Type, m.Name)
	case keyed:
		key, err := p.Value(m.Key, int(m.KeySize))
		if err != nil {
			return kv, err
		}
		kv.Key = key
	}
	if err := p.Expect(']'); err != nil {
		return kv, err
	}
	if err := p.Expect('='); err != nil {
		return kv, err
	}
	kv.Value, err = b.mapValue(p, m)
	return kv, err
}

// mapValue reads a value as the type of map has it.
func (b *binder) mapValue(p *btfvalue.Parser, m *ebpf.MapSpec) (any, error) {
	switch {
	case kindOf(m.Type) == programs:
		name, err := p.Word()
		if err == nil && b.spec.Programs[name] == nil {
			err = fmt.Errorf("there is no program %s; there are: %s", name, names(b.spec.Programs))
		}
		return name, err
	case isMapOfMaps(m.Type) && m.InnerMap == nil:
		return nil, fmt.Errorf("the object does not say what is in the maps of map %s", m.Name)
	case isMapOfMaps(m.Type):
		return b.inner(p, m.InnerMap)
	case p.Peek() == '(':
		return b.cast(p)
	case m.Type == ebpf.RingBuf:
		return p.Hex()
	}
	return p.Value(m.Value, int(m.ValueSize))
}

// inner reads what is in a map of a map of maps: {[KEY] = VALUE, ...}.
func (b *binder) inner(p *btfvalue.Parser, m *ebpf.MapSpec) ([]ebpf.MapKV, error) {
	entries := []ebpf.MapKV{}
	if err := p.Expect('{'); err != nil {
		return nil, err
	}
	for !p.Take('}') {
		kv, err := b.keyValue(p, m)
		if err != nil {
			return nil, err
		}
		entries = append(entries, kv)
		if !p.Take(',') {
			return entries, p.Expect('}')
		}
	}
	return entries, nil
}

// parseCall reads "NAME(ARGUMENT, ...) = RESULT": numbers, or any for an argument; without "= RESULT" what the function says.
func parseCall(p *btfvalue.Parser) (k KfuncCall, err error) {
	if k.Name, err = p.Word(); err != nil {
		return k, err
	}
	if err := p.Expect('('); err != nil {
		return k, err
	}
	k.Args = []any{}
	for !p.Take(')') {
		w, err := p.Word()
		if err != nil {
			return k, err
		}
		arg, err := callNumber(w)
		if w == "any" {
			arg, err = Any, nil
		}
		if err != nil {
			return k, err
		}
		k.Args = append(k.Args, arg)
		if !p.Take(',') {
			if err := p.Expect(')'); err != nil {
				return k, err
			}
			break
		}
	}
	if !p.Take('=') {
		return k, nil
	}
	w, err := p.Word()
	if err != nil {
		return k, err
	}
	k.Result, err = callNumber(w)
	return k, err
}

// callNumber reads a number of 64 bits, of either sign.
func callNumber(w string) (any, error) {
	if v, err := strconv.ParseInt(w, 0, 64); err == nil {
		return v, nil
	}
	if v, err := strconv.ParseUint(w, 0, 64); err == nil {
		return v, nil
	}
	return nil, fmt.Errorf("%s is neither a number nor any", w)
}
