package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/pcap"
	"github.com/skep-bpf/skep/internal/perfmap"
	"github.com/skep-bpf/skep/internal/progtype"
)

var runVerb = &verb{
	name: "run", args: "FILE -prog NAME [-type SECTION] [-data HEX|@FILE|@FILE.pcap] [-ctx HEX] [-repeat N] [-engine jit|interp|kernel] [-maps] [-json] [-perf-map]\n" +
		"       skep run CASES.txtar... [-run REGEXP] [-engine jit|interp] [-coverprofile FILE] [-json]",
	short: "run a program on a packet or context, or on cases",
	help: `
Prints the return value, the packet afterwards, and the time of one run.
  -prog NAME    the program; not needed if the file has only one
  -type SECTION take the program to be in a section of that name, as libbpf knows them: xdp, kprobe, cgroup/connect4
  -data HEX     the packet: hexadecimal digits, @FILE for the bytes of a file, @FILE.pcap for each packet of a capture;
                64 zero bytes if the program type needs one and none is given
  -ctx HEX      the context structure (struct xdp_md, struct __sk_buff, ...), or the argument of a syscall program
  -repeat N     run N times on the same packet
  -engine E     jit, interp, or kernel: the same object through bpf(2), for comparison (needs root)
  -maps         print the contents of the maps afterwards
  -json         print a JSON object for each packet; with -maps one more, of keys and values by map
  -perf-map     write /tmp/perf-PID.map, by which perf report names the program and its functions; needs the engine jit

A file that ends in .txtar has cases: packets and maps before and after, verdicts, calls of kfuncs, time. docs/skeptest.md has the
format; package skeptest runs the same files in go test. A case that fails is shown with what differs.
  -run REGEXP        only the cases whose names match
  -coverprofile FILE write which lines of C ran, as a profile of go tool cover; interpreted
  -json              print a JSON object for each case

  -- suite --                                   the object that is tested
  object prog.o
  -- case a packet that is dropped --           a program, what it must return
  program my_xdp
  want XDP_DROP
  -- packet.in --                               hexadecimal digits, or @FILE.pcap NUMBER; packet.out for the packet afterwards
  02 00 00 00 00 01 02 00 00 00 00 02 08 00
  -- maps.before --                             maps and variables, as in C
  blocked[10.0.0.1] = {.since = 5}
  -- maps.after --
  dropped = 1

Exit code: 0, 1 if a program was rejected, a run failed or a case did, 2 if the file could not be loaded.

Examples:
  skep run prog.o -prog my_xdp -data 0011223344556677889900aa0800
  skep run prog.o -prog my_xdp -data @traffic.pcap -maps
  skep run prog.o -prog my_xdp -repeat 1000000 -json
  perf record skep run prog.o -prog my_xdp -repeat 100000000 -perf-map
  sudo skep run prog.o -prog my_xdp -repeat 1000000 -engine kernel
  skep run cases.txtar -coverprofile c.cov && go tool cover -html c.cov
`,
}

func init() { runVerb.run = runRun }

// runLine is a line of skep run -json.
type runLine struct {
	Program string  `json:"program"`
	Engine  string  `json:"engine"`
	Retval  uint32  `json:"retval"`
	DataOut string  `json:"data_out"`
	NSPer   float64 `json:"ns_per_run"`
}

type runArgs struct {
	prog, engine, data, ctx string
	repeat                  uint
	maps, json, perfMap     bool
	run, coverProfile       string // of cases
}

func runRun(e *env, args []string) int {
	var a runArgs
	fs := e.flags()
	fs.StringVar(&a.prog, "prog", "", "")
	fs.StringVar(&a.data, "data", "", "")
	fs.StringVar(&a.ctx, "ctx", "", "")
	fs.StringVar(&a.engine, "engine", "", "")
	fs.UintVar(&a.repeat, "repeat", 1, "")
	fs.BoolVar(&a.maps, "maps", false, "")
	fs.BoolVar(&a.json, "json", false, "")
	fs.BoolVar(&a.perfMap, "perf-map", false, "")
	typ := typeFlag(fs)
	fs.StringVar(&a.run, "run", "", "")
	fs.StringVar(&a.coverProfile, "coverprofile", "", "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if areArchives(files) {
		if err := only(fs, "files of cases", "run", "coverprofile", "engine", "json"); err != nil {
			return e.usageError("%v", err)
		}
		return e.runCases(files, &a)
	}
	if a.run != "" || a.coverProfile != "" {
		return e.usageError("-run and -coverprofile are for files of cases (.txtar)")
	}
	file, spec, code, ok := e.loadOne(files)
	if !ok {
		return code
	}
	typ.apply(spec, a.prog)
	name, err := oneProgram(spec, a.prog)
	if err != nil {
		return e.fail(exitUsage, fmt.Errorf("%s: %w", file, err))
	}
	packets, err := readPackets(a.data, spec.Programs[name].Type)
	if err != nil {
		return e.usageError("-data: %v", err)
	}
	ctx, err := readHex(a.ctx)
	if err != nil {
		return e.usageError("-ctx: %v", err)
	}
	if a.repeat > math.MaxInt32 {
		return e.usageError("-repeat: at most %d", math.MaxInt32)
	}
	if !slices.Contains(engineNames, a.engine) {
		return e.usageError("-engine: there is no engine %q; use jit, interp or kernel", a.engine)
	}
	r, err := openRunner(a.engine, spec, name, a.perfMap, e)
	if err != nil {
		code := e.fail(loadCode(err), err)
		e.explain(err)
		return code
	}
	defer r.close()
	if a.perfMap {
		if r.engine != skep.EngineJIT.String() {
			return e.usageError("-perf-map: the engine %s makes no machine code in this process", r.engine)
		}
		fmt.Fprintf(e.stderr, "perf map: %s\n", perfmap.Path())
	}
	for _, pkt := range packets {
		if err := e.runOnce(r, name, pkt, ctx, &a); err != nil {
			return e.fail(exitRejected, err)
		}
	}
	if a.maps && a.json {
		err = e.printJSONMaps(r)
	} else if a.maps {
		err = e.printMaps(r)
	}
	if err != nil {
		return e.fail(exitRejected, err)
	}
	return exitOK
}

func (e *env) runOnce(r *runner, name string, pkt, ctx []byte, a *runArgs) error {
	out, err := r.run(pkt, ctx, uint32(a.repeat))
	if err != nil {
		return err
	}
	if a.json {
		return e.printJSON(runLine{name, r.engine, out.ret, hex.EncodeToString(out.data), out.ns})
	}
	fmt.Fprintf(e.stdout, "%s (%s): returned %d (%#x), %.1f ns per run\n", name, r.engine, out.ret, out.ret, out.ns)
	if out.redirect != "" {
		fmt.Fprintf(e.stdout, "  redirect to %s\n", out.redirect)
	}
	if len(out.data) > 0 {
		changed := ""
		if !bytes.Equal(out.data, pkt) {
			changed = ", changed"
		}
		fmt.Fprintf(e.stdout, "  packet of %d bytes%s: %x\n", len(out.data), changed, out.data)
	}
	if len(ctx) > 0 && len(out.ctx) > 0 {
		fmt.Fprintf(e.stdout, "  context: %x\n", out.ctx)
	}
	return nil
}

// readPackets reads the argument of -data.
func readPackets(arg string, typ ebpf.ProgramType) ([][]byte, error) {
	file, isFile := strings.CutPrefix(arg, "@")
	switch {
	case arg == "":
		if !progtype.TakesPacket(typ) {
			return [][]byte{nil}, nil
		}
		return [][]byte{make([]byte, 64)}, nil
	case !isFile:
		b, err := readHex(arg)
		return [][]byte{b}, err
	case strings.HasSuffix(file, ".pcap"):
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		packets, err := pcap.Read(f)
		if err == nil && len(packets) == 0 {
			err = fmt.Errorf("%s holds no packets", file)
		}
		return packets, err
	}
	b, err := os.ReadFile(file)
	return [][]byte{b}, err
}

// readHex decodes hexadecimal digits; blanks and colons between them are ignored, and a 0x in front.
func readHex(s string) ([]byte, error) {
	s = strings.TrimPrefix(s, "0x")
	s = strings.NewReplacer(" ", "", ":", "", "\n", "", "\t", "", "\r", "").Replace(s)
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not hexadecimal: %w", err)
	}
	return b, nil
}
