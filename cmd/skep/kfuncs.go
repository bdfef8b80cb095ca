package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/ctype"
)

var kfuncsVerb = &verb{
	name: "kfuncs", args: "[FILE] [-header] [-btf OUT]", short: "declare kfuncs in C and BTF",
	help: `
Prints the prototypes of the kfuncs that an object declares in its BTF, or, without a file, of those that the demo registers
as Go functions. Which Go functions another process registers is not known here: skep.WriteKfuncHeader and skep.WriteKfuncBTF
write the same of its set.
  -header   a C header: weak declarations, those of more than five parameters with the macros of include/skep/bpf_stack_args.h,
            and the structures that they point to
  -btf OUT  write raw BTF with these functions, tagged bpf_kfunc, and their types to file OUT

Examples:
  skep kfuncs -header > kfuncs.h
  skep kfuncs prog.o -header
`,
}

func init() { kfuncsVerb.run = runKfuncs }

func runKfuncs(e *env, args []string) int {
	fs := e.flags()
	header := fs.Bool("header", false, "")
	out := fs.String("btf", "", "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if len(files) > 1 {
		return e.usageError("at most one file")
	}
	protos, text, err := demoHeader()
	if len(files) == 1 {
		protos, text, err = declaredHeader(files[0])
	}
	if err != nil {
		return e.fail(exitUsage, err)
	}
	if *out != "" {
		var raw bytes.Buffer
		if err := skep.WriteKfuncBTF(&raw, protos); err != nil {
			return e.fail(exitUsage, err)
		}
		if err := os.WriteFile(*out, raw.Bytes(), 0o666); err != nil {
			return e.fail(exitUsage, err)
		}
	}
	if *header {
		fmt.Fprint(e.stdout, text)
		return exitOK
	}
	for _, fn := range protos {
		fmt.Fprintln(e.stdout, ctype.Proto(fn.Name, fn.Type.(*btf.FuncProto)))
	}
	return exitOK
}

// demoHeader is that of the demo's Go function.
func demoHeader() ([]*btf.Func, string, error) {
	var k skep.Kfuncs
	if err := k.Register("skep_sum12", weigh); err != nil {
		return nil, "", err
	}
	protos, err := k.Prototypes()
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	err = skep.WriteKfuncHeader(&b, &k)
	return protos, b.String(), err
}

// declaredHeader is that of the kfuncs which an object declares.
func declaredHeader(file string) ([]*btf.Func, string, error) {
	spec, err := skep.LoadCollectionSpec(file)
	if err != nil {
		return nil, "", err
	}
	protos, err := declaredKfuncs(spec)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	var b bytes.Buffer
	if err := skep.WriteDeclaredKfuncs(&b, protos); err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	return protos, b.String(), nil
}

// declaredKfuncs are an object's extern functions, by name.
func declaredKfuncs(spec *ebpf.CollectionSpec) ([]*btf.Func, error) {
	var protos []*btf.Func
	if spec.Types == nil {
		return nil, fmt.Errorf("the object has no BTF")
	}
	for t, err := range spec.Types.All() {
		if err != nil {
			return nil, err
		}
		if fn, ok := t.(*btf.Func); ok && fn.Linkage == btf.ExternFunc {
			protos = append(protos, fn)
		}
	}
	slices.SortFunc(protos, func(a, b *btf.Func) int { return strings.Compare(a.Name, b.Name) })
	return protos, nil
}
