package skep

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// Verification is what the verifier found out about a program that it accepted.
type Verification struct {
	Stats verifier.Stats
	Log   string
}

// Verify proves one program of a spec without loading it: no map is made, no code compiled. Kfuncs count if they are in
// opts.Kfuncs. The error of a rejection is a *VerifierError; any other error means that there was nothing to verify.
func Verify(spec *ebpf.CollectionSpec, name string, opts Options) (*Verification, error) {
	if spec == nil {
		return nil, errors.New("collection spec is nil")
	}
	opt := opts.programOptions()
	opt.Ksyms = true
	p, err := program.FromSpec(spec, name, opt)
	if err != nil {
		return nil, err
	}
	if err := opts.bindHook(spec.Programs[name], p); err != nil {
		return nil, err
	}
	if err := opts.describeKfuncs(p); err != nil {
		return nil, err
	}
	res, err := opts.verify(p)
	if err != nil {
		return nil, err
	}
	return &Verification{Stats: res.Stats, Log: res.Log}, nil
}

func (o *Options) programOptions() program.Options {
	extra := slices.Clone(o.ExtraBTF)
	for _, h := range o.Hooks {
		if h != nil && h.types != nil {
			extra = append(extra, h.types)
		}
	}
	return program.Options{
		KernelTypes: o.KernelBTF, ExtraTypes: extra, Kfuncs: o.Kfuncs.lookup, Kconfig: o.Kconfig, Map: mapOf,
	}
}

// describeKfuncs completes the prototypes of a program's kfuncs and matches them with the Go functions registered: a
// mismatch is an error that shows both, before the verifier finds fault with one of them. What a native function cannot
// take the verifier says in the kernel's words first, unless the kernel has none for it.
func (o *Options) describeKfuncs(p *program.Program) error {
	for i := range p.Kfuncs {
		k := &p.Kfuncs[i]
		fn, err := o.Kfuncs.describe(k.Name, k.Type)
		if err != nil {
			return fmt.Errorf("program %s: %w", p.Name, err)
		}
		k.Type = fn
		if f, ok := o.Kfuncs.find(k.Name); ok && fn != nil {
			if err := f.matches(fn); err != nil {
				return fmt.Errorf("program %s: %w", p.Name, err)
			}
		}
	}
	if err := o.Kfuncs.checkHandedOut(p.Kfuncs); err != nil {
		return fmt.Errorf("program %s: %w", p.Name, err)
	}
	if h := p.Hook; h != nil {
		if err := checkHookKfuncs(h, o.Kfuncs, p); err != nil {
			return fmt.Errorf("program %s: %w", p.Name, err)
		}
	}
	return nil
}

// arch is the machine whose registers are in contexts.
func (o *Options) arch() string { return cmp.Or(o.Arch, runtime.GOARCH) }

// kernelTypes are the types that programs know the kernel by: those given, or the host's.
func (o *Options) kernelTypes() *btf.Spec {
	if o.KernelBTF != nil {
		return o.KernelBTF
	}
	return program.HostTypes()
}

// verify runs the verifier; a rejection gets a log even if none was asked for, as with cilium/ebpf.
func (o *Options) verify(p *program.Program) (*verifier.Result, error) {
	vo := verifier.Options{
		LogLevel: uint32(o.LogLevel), LogLimit: o.Limits.LogBytes, Helpers: helpers.Proto, InsnLimit: o.Limits.Insns,
		GlobalStackArgs: o.GlobalStackArgs, JIT: o.JIT, CPUs: PossibleCPUs(),
		Arch: o.arch(), Kernel: o.kernelTypes, Without: o.Without, Target: o.Target,
	}
	res, err := verifier.Verify(p, vo)
	if err == nil {
		return res, nil
	}
	if vo.LogLevel == 0 {
		vo.LogLevel = verifier.LogBranch
		if _, again := verifier.Verify(p, vo); again != nil {
			err = again
		}
	}
	var ve *verifier.Error
	if errors.As(err, &ve) {
		return nil, newVerifierError(ve, func() *verifier.Report { return verifier.Explain(p, vo, ve) })
	}
	return nil, fmt.Errorf("program %s: %w", p.Name, err)
}
