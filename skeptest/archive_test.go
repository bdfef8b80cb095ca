package skeptest

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/skep-bpf/skep"
)

func TestArchive(t *testing.T) {
	suite, cases, err := LoadArchive("testdata/cases.txtar")
	if err != nil {
		t.Fatal(err)
	}
	suite.Engines = engines()
	suite.Run(t, cases)
	if len(cases) != 4 || len(cases[2].Then) != 1 {
		t.Errorf("%d cases", len(cases))
	}
}

// archiveOf reads an archive that stands beside the others.
func archiveOf(t testing.TB, text string) ([]Case, error) {
	t.Helper()
	a, err := parseArchive("x.txtar", []byte(text))
	if err != nil {
		return nil, err
	}
	spec, err := skep.LoadCollectionSpec("testdata/" + a.suite.keys["object"].text)
	if err != nil {
		t.Fatal(err)
	}
	return (&binder{archive: a, spec: spec, dir: "testdata"}).cases()
}

// TestArchiveCase: what each line means.
func TestArchiveCase(t *testing.T) {
	cases, err := archiveOf(t, `-- suite --
object cases.o
-- consts --
limit = 3
-- maps.before --
totals[0] = 1
dropped = 1
-- case all --
program forward
want TC_ACT_UNSPEC
redirect 7
cpu 1
seed 0x10
now 1ms
advance 2s
advance.after 3s
pid 1
tgid 2
uid 3
gid 4
comm a name
-- consts --
limit = 4
-- context.in --
01 02
-- context.out --
(struct flow){.port = 5}
-- maps.before --
totals[0] = 2
-- maps.after --
flows is empty
-- kfuncs --
price(any, -1)
-- then --
want any
redirect devices 3
-- then more --
want -1
redirect none
`)
	if err != nil {
		t.Fatal(err)
	}
	c := cases[0]
	flowType := c.WantContext.(*typed).typ
	want := Case{
		Name: "all", Program: "forward", Want: TCActUnspec, WantRedirect: &skep.Redirect{Set: true, IfIndex: 7}, CPU: 1, Seed: 16, Now: 1e6,
		Advance: 2e9, AdvanceAfter: 3e9, Env: skep.Env{PID: 1, TGID: 2, UID: 3, GID: 4, Comm: "a name"},
		Consts: map[string]any{"limit": []byte{4, 0, 0, 0}}, VarsBefore: map[string]any{"dropped": []byte{1, 0, 0, 0}},
		Context: []byte{1, 2}, WantContext: &typed{flowType, []byte{0, 0, 0, 0, 5, 0, 0, 0}},
		MapsBefore: Maps{"totals": {
			{Key: []byte{0, 0, 0, 0}, Value: []byte{1, 0, 0, 0, 0, 0, 0, 0}}, {Key: []byte{0, 0, 0, 0}, Value: []byte{2, 0, 0, 0, 0, 0, 0, 0}},
		}},
		MapsAfter: Maps{"flows": {}}, VarsAfter: map[string]any{},
		Kfuncs: []KfuncCall{{Name: "price", Args: []any{Any, int64(-1)}}},
		Then: []Case{
			{AnyReturn: true, WantRedirect: &skep.Redirect{Set: true, Map: "devices", Key: 3}},
			{Name: "more", Want: ^uint32(0), WantRedirect: &skep.Redirect{}},
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v\nwant %+v", c, want)
	}
}

// TestMalformedArchives: what is wrong is said, with file and line.
func TestMalformedArchives(t *testing.T) {
	const suite = "-- suite --\nobject cases.o\n"
	const head = suite + "-- case c --\nprogram forward\nwant 2\n" // five lines
	for _, c := range []struct{ text, want string }{
		{"", "x.txtar:1: there is no file suite, which names the object"},
		{"-- case c --\nwant 1\n", "x.txtar:1: a case in front of the file suite, which names the object"},
		{"text\n\n-- suite --\n", `x.txtar:3: the suite names no object: it needs a line "object FILE"`},
		{"-- packet.in --\n", `x.txtar:1: file "packet.in" in front of the file suite`},
		{"-- then --\n", "x.txtar:1: then without a case in front of it"},
		{suite, "x.txtar:1: there are no cases"},
		{suite + "-- packet.in --\n", `x.txtar:3: unknown file "packet.in"; here may be: consts, maps.before, or the next case or then`},
		{suite + "-- suite --\n", "x.txtar:3: the suite must be the first file, and the only one of that name"},
		{"-- suite --\nfile x\n", `x.txtar:2: unknown key "file"; there are: object`},
		{"-- suite --\nobject\n", "x.txtar:2: key object has no value"},
		{"-- suite --\nobject a\nobject b\n", "x.txtar:3: key object is there twice"},
		{suite + "-- case --\n", `x.txtar:3: the case has no name: write "-- case NAME --"`},
		{suite + "-- case c --\n", `x.txtar:3: the case has no line "want VERDICT"; any return value is "want any"`},
		{head + "-- then --\n", `x.txtar:6: the case has no line "want VERDICT"; any return value is "want any"`},
		{head + "-- case c --\n", `x.txtar:6: the name "c" is that of the case in line 3`},
		{head + "\n# comment\nverdict 1\n", `x.txtar:8: unknown key "verdict"; there are: ` + strings.Join(caseKeys, ", ")},
		{head + "-- then --\nseed 1\n", `x.txtar:7: unknown key "seed"; there are: ` + strings.Join(stepKeys, ", ")},
		{head + "-- then --\nwant 1\n-- consts --\n", `x.txtar:8: unknown file "consts"; here may be: ` + strings.Join(stepFiles, ", ") + ", or the next case or then"},
		{head + "-- packet.in --\n-- packet.in --\n", "x.txtar:7: file packet.in is there twice"},
		{suite + "-- case c --\nprogram x\nwant 1\n", "x.txtar:4: program: there is no program x; there are: charge, forward, report"},
		{suite + "-- case c --\nwant XDP_NO\n", `x.txtar:4: want: "XDP_NO" is neither a number of 32 bits nor a name such as XDP_PASS or TC_ACT_OK`},
		{head + "cpu -1\n", `x.txtar:6: cpu: "-1" is not a number of 32 bits`},
		{head + "seed 0\n", `x.txtar:6: seed: "0" is not a number of 64 bits above 0`},
		{head + "advance 1\n", `x.txtar:6: advance: "1" is not a time such as 10ms or 1h30m`},
		{head + "now -1s\n", `x.txtar:6: now: "-1s" is not a time such as 10ms or 1h30m`},
		{head + "redirect a b c\n", `x.txtar:6: redirect: "a b c" is not none, the number of an interface, or a map and a key`},
		{head + "-- packet.in --\n01\n0 2\n1\n", "x.txtar:9: not pairs of hexadecimal digits: 1"},
		{head + "-- packet.in --\n0000: 01 02\n0010: 03\n", "x.txtar:8: offset 0x10, but there were 0x2 bytes before"},
		{head + "-- packet.in --\nxyz: 01 02\n", `x.txtar:7: "xyz" is not an offset`},
		{head + "-- packet.in --\n@none.pcap\n", "x.txtar:7: open testdata"},
		{head + "-- packet.in --\n@udp.pcap 2\n", "x.txtar:7: udp.pcap has 1 packets, and no packet 2"},
		{head + "-- packet.in --\n@udp.pcap x\n", `x.txtar:7: "x" is not the number of a packet`},
		{head + "-- packet.in --\n@udp.pcap\n00\n", "x.txtar:8: a line behind the name of a capture"},
		{head + "-- packet.in --\n@cases.c\n", "x.txtar:7: cases.c: pcap: not a capture file"},
		{head + "-- consts --\nx = 1\n", "x.txtar:7: there is no variable x; there are: dropped, limit"},
		{head + "-- consts --\nlimit = 1\nlimit = 2\n", "x.txtar:8: variable limit is there twice"},
		{head + "-- consts --\nlimit 1\n", "x.txtar:7: column 7: '1' where '=' should be"},
		{head + "-- maps.before --\nx[1] = 1\n", "x.txtar:7: there is no map x; there are: "},
		{head + "-- maps.before --\ntotals[] = 1\n", "x.txtar:7: the key of map totals is missing"},
		{head + "-- maps.before --\nevents[1] = hex(00)\n", "x.txtar:7: map events (RingBuf) has no keys: write events[] = VALUE"},
		{head + "-- maps.before --\ntotals[1 = 1\n", "x.txtar:7: column 10: '=' where ']' should be"},
		{head + "-- maps.before --\ntotals[1] = 1 2\n", `x.txtar:7: column 15: "2" behind the end`},
		{head + "-- maps.before --\nflows[{.adr = 1}] = {}\n", "x.txtar:7: column 8: no member adr; there are: addr, port, proto"},
		{head + "-- maps.before --\nflows is empty\n", "x.txtar:7: column 7: 'i' where '[' should be"},
		{head + "-- maps.after --\nflows are empty\n", `x.txtar:7: map flows: "[KEY] = VALUE" or "is empty" must follow`},
		{head + "-- maps.after --\nflows is empty\nflows[{}] = {}\n", "x.txtar:8: map flows is empty, and is not"},
		{head + "-- maps.after --\nevents[] = 5\n", "x.txtar:7: column 12: only hex(...) can be here, the type is not known"},
		{head + "-- maps.after --\nevents[] = (struct event){}\n", "x.txtar:7: type event: "},
		{head + "-- kfuncs --\nprice\n", "x.txtar:7: column 6: '(' is missing"},
		{head + "-- kfuncs --\nprice(1 2)\n", "x.txtar:7: column 9: '2' where ')' should be"},
		{head + "-- kfuncs --\nprice(x)\n", "x.txtar:7: x is neither a number nor any"},
		{head + "-- kfuncs --\nprice(1) = \n", "x.txtar:7: column 11: something is missing"},
	} {
		if _, err := archiveOf(t, c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s\n%v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestLoadArchiveErrors: files that are not there.
func TestLoadArchiveErrors(t *testing.T) {
	if _, _, err := LoadArchive("testdata/none.txtar"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "x.txtar")
	if err := os.WriteFile(file, []byte("-- suite --\nobject none.o\n-- case c --\nwant 1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadArchive(file); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), file+":2: object: ") {
		t.Errorf("%v", err)
	}
}

// FuzzArchive: no file of cases makes the reader panic, and what it refuses it refuses with a place.
func FuzzArchive(f *testing.F) {
	data, err := os.ReadFile("testdata/cases.txtar")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add("-- suite --\nobject cases.o\n-- case c --\nwant 1\n-- maps.before --\nflows[{}] = {.name = \"\\\"#\"} # x\n-- kfuncs --\nf(any)=-1\n")
	spec, err := skep.LoadCollectionSpec("testdata/cases.o")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseArchive("x.txtar", []byte(text))
		if err == nil {
			_, err = (&binder{archive: a, spec: spec, dir: t.TempDir()}).cases()
		}
		if err != nil && !strings.HasPrefix(err.Error(), "x.txtar:") {
			t.Errorf("no place: %v", err)
		}
	})
}
