//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Prog is a program in the kernel, with the maps it names. Its methods may be called concurrently; Close ends it.
type Prog struct {
	fd   int
	maps []*Map
}

// Available reports why the kernel's bpf(2) cannot be used, nil if it can: it loads a program of two instructions.
var Available = sync.OnceValue(func() error {
	setLimit()
	p := &program.Program{Name: "probe", Type: ebpf.SocketFilter, License: "GPL", Insns: []isa.Insn{
		{Op: isa.ClassALU64 | isa.AluMOV}, {Op: isa.ClassJMP | isa.JmpEXIT},
	}}
	k, err := Load(p)
	if err != nil {
		return fmt.Errorf("bpf(2) is not usable: %w", err)
	}
	return k.Close()
})

// Verify asks the kernel's verifier about p at a log level (verifier.LogBranch..; 0 gives only the reason of a
// rejection). The error is not nil if that is no verdict on the program.
func Verify(p *program.Program, level uint32) (accepted bool, log string, err error) {
	k, log, err := load(p, level)
	switch {
	case err == nil:
		return true, log, k.Close()
	case errors.Is(err, ErrNoVerdict):
		return false, log, err
	}
	return false, log, nil
}

// Load verifies p and keeps it. A rejection is an error that ends in the last line of the log.
func Load(p *program.Program) (*Prog, error) {
	k, log, err := load(p, 0)
	if err != nil {
		return nil, fmt.Errorf("program %s: %w: %s", p.Name, err, reason(log))
	}
	return k, nil
}

func load(p *program.Program, level uint32) (_ *Prog, log string, err error) {
	types, err := loadTypes(p)
	if err != nil {
		return nil, "", err
	}
	defer types.close()
	k := &Prog{fd: -1}
	defer func() {
		if err != nil {
			k.Close()
		}
	}()
	for i := range p.Maps {
		m, err := createMap(&p.Maps[i], types)
		if err != nil {
			return nil, "", err
		}
		k.maps = append(k.maps, m)
	}
	a, err := k.attr(p, types)
	if err != nil {
		return nil, "", err
	}
	k.fd, log, err = progLoad(&a, level)
	return k, log, err
}

// attr describes p, whose maps k has, to the kernel. Types may be nil.
func (k *Prog) attr(p *program.Program, types *typeInfo) (a attrProgLoad, err error) {
	insns, err := resolve(p, k.maps)
	if err != nil {
		return a, err
	}
	a = attrProgLoad{
		progType: uint32(p.Type), attachType: uint32(p.AttachType), flags: p.Flags, name: objName(p.Name),
		insns: ptr(insns), insnCount: uint32(len(insns) / 8), license: ptr(cstring(p.License)),
	}
	if err := attachTarget(p, &a); err != nil {
		return a, err
	}
	if types != nil {
		a.btfFD = uint32(types.fd)
		if types.funcCount > 0 {
			a.funcInfo, a.funcInfoSize, a.funcInfoCount = ptr(types.funcs), funcInfoSize, uint32(types.funcCount)
		}
		if types.lineCount > 0 {
			a.lineInfo, a.lineInfoSize, a.lineInfoCount = ptr(types.lines), lineInfoSize, uint32(types.lineCount)
		}
	}
	return a, nil
}

// progLoad loads with a log that is as large as the kernel wants it. At level 0 a log is asked for only after a
// failure, at the level that prints nothing but the reason.
func progLoad(a *attrProgLoad, level uint32) (fd int, log string, err error) {
	if level == 0 {
		if fd, e := call(cmdProgLoad, a); e == 0 {
			return fd, "", nil
		}
		level = 4
	}
	for size := logStart; ; {
		buf := make([]byte, size)
		a.logLevel, a.logSize, a.logBuf = level, uint32(size), ptr(buf)
		fd, e := call(cmdProgLoad, a)
		if e == unix.ENOSPC && size < logMax {
			size = min(logMax, max(2*size, int(a.logTrueSize)+1))
			continue
		}
		log = text(buf)
		switch {
		case e == 0:
			return fd, log, nil
		case strings.Contains(log, "failed to find the address for kernel symbol"), // built without the names of its variables
			e == unix.EPERM, e == unix.ENOMEM, e == unix.ENOSPC, log == "",
			e == unix.EFAULT && strings.Contains(strings.ToLower(log), "verifier bug"): // it contradicts itself
			return -1, log, fmt.Errorf("load: %w: %w", e, ErrNoVerdict)
		}
		return -1, log, fmt.Errorf("load: %w", e)
	}
}

// resolve returns the program's bytes with map indices replaced by descriptors and kfunc indices by BTF ids.
func resolve(p *program.Program, maps []*Map) ([]byte, error) {
	out := make([]byte, 0, 8*len(p.Insns))
	for pc := 0; pc < len(p.Insns); pc++ {
		in := p.Insns[pc]
		switch {
		case in.IsLdImm64() && (in.Src == isa.PseudoMapFD || in.Src == isa.PseudoMapValue):
			if in.Imm < 0 || int(in.Imm) >= len(maps) {
				return nil, fmt.Errorf("insn %d: no map %d: %w", pc, in.Imm, ErrNoVerdict)
			}
			in.Imm = int32(maps[in.Imm].fd)
		case in.IsLdImm64() && in.Src == isa.PseudoBTFID:
			both, err := ksym(p, in)
			if err != nil {
				return nil, fmt.Errorf("insn %d: %w: %w", pc, err, ErrNoVerdict)
			}
			out = append(out, both...)
			pc++
			continue
		case in.IsKfuncCall():
			if in.Imm < 0 || int(in.Imm) >= len(p.Kfuncs) {
				return nil, fmt.Errorf("insn %d: no kfunc %d: %w", pc, in.Imm, ErrNoVerdict)
			}
			var f *btf.Func
			id, err := vmlinuxID(p.Kfuncs[in.Imm].Name, &f)
			if err != nil {
				return nil, fmt.Errorf("insn %d: kfunc %s: %w: %w", pc, p.Kfuncs[in.Imm].Name, err, ErrNoVerdict)
			}
			in.Imm, in.Off = int32(id), 0
		case in.Dst >= isa.RParams || in.Src >= isa.RParams:
			if !in.IsCall() && !in.IsLdImm64() {
				return nil, fmt.Errorf("insn %d: the kernel does not know stack arguments: %w", pc, ErrNoVerdict)
			}
		}
		out = append(out, in.Op, byte(in.Dst)|byte(in.Src)<<4)
		out = binary.NativeEndian.AppendUint16(out, uint16(in.Off))
		out = binary.NativeEndian.AppendUint32(out, uint32(in.Imm))
	}
	return out, nil
}

// ksym returns the two slots that load the address of a variable of the kernel: by its BTF, or the number itself.
func ksym(p *program.Program, in isa.Insn) ([]byte, error) {
	if in.Imm < 0 || int(in.Imm) >= len(p.Ksyms) {
		return nil, fmt.Errorf("no kernel variable %d", in.Imm)
	}
	k := &p.Ksyms[in.Imm]
	src, value := byte(isa.PseudoBTFID), uint64(0)
	if k.Typed {
		var v *btf.Var
		id, err := vmlinuxID(k.Name, &v)
		if err != nil {
			return nil, err
		}
		value = uint64(id)
	} else {
		addr, ok := kallsyms()[k.Name]
		if !ok {
			return nil, fmt.Errorf("no symbol %s in /proc/kallsyms", k.Name)
		}
		src, value = 0, addr
	}
	out := []byte{in.Op, byte(in.Dst) | src<<4, 0, 0}
	out = binary.NativeEndian.AppendUint32(out, uint32(value))
	return binary.NativeEndian.AppendUint32(append(out, 0, 0, 0, 0), uint32(value>>32)), nil
}

// kallsyms are the addresses of the kernel's symbols, the first of each name.
var kallsyms = sync.OnceValue(func() map[string]uint64 {
	all := map[string]uint64{}
	data, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return all
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if addr, err := strconv.ParseUint(f[0], 16, 64); err == nil {
			if _, dup := all[f[2]]; !dup {
				all[f[2]] = addr
			}
		}
	}
	return all
})

// vmlinuxID finds a type of the running kernel by name and kind and returns its id.
func vmlinuxID(name string, typ any) (btf.TypeID, error) {
	spec := program.HostTypes()
	if spec == nil {
		return 0, errors.New("the kernel shows no BTF")
	}
	if err := spec.TypeByName(name, typ); err != nil {
		return 0, err
	}
	var t btf.Type
	switch v := typ.(type) {
	case **btf.Func:
		t = *v
	case **btf.Typedef:
		t = *v
	case **btf.Struct:
		t = *v
	case **btf.Var:
		t = *v
	}
	return spec.TypeID(t)
}

// attachTarget fills in the BTF id of what p attaches to, for types that need one.
func attachTarget(p *program.Program, a *attrProgLoad) error {
	var f *btf.Func
	var td *btf.Typedef
	var id btf.TypeID
	var err error
	switch {
	case p.Type == ebpf.Tracing && p.AttachType == ebpf.AttachTraceRawTp:
		id, err = vmlinuxID("btf_trace_"+p.AttachTo, &td)
	case p.Type == ebpf.Tracing && p.AttachType == ebpf.AttachTraceIter:
		id, err = vmlinuxID("bpf_iter_"+p.AttachTo, &f)
	case p.Type == ebpf.LSM:
		id, err = vmlinuxID("bpf_lsm_"+p.AttachTo, &f)
	case p.Type == ebpf.StructOps:
		id, a.attachType, err = method(p.AttachTo)
	case p.Type == ebpf.Tracing && p.AttachTo != "":
		id, err = vmlinuxID(p.AttachTo, &f)
	}
	if err != nil {
		return fmt.Errorf("attach to %s: %w: %w", p.AttachTo, err, ErrNoVerdict)
	}
	a.attachBTFID = uint32(id)
	return nil
}

// method finds a method of a structure, both in one name with a colon between: the structure's BTF id and the member's number.
func method(name string) (id btf.TypeID, member uint32, err error) {
	structure, want, _ := strings.Cut(name, ":")
	var s *btf.Struct
	if id, err = vmlinuxID(structure, &s); err != nil {
		return 0, 0, err
	}
	for i, m := range s.Members {
		if m.Name == want {
			return id, uint32(i), nil
		}
	}
	return 0, 0, fmt.Errorf("no member %s", want)
}

// Close releases the program and its maps.
func (k *Prog) Close() error {
	var err error
	if k.fd >= 0 {
		err = unix.Close(k.fd)
		k.fd = -1
	}
	for _, m := range k.maps {
		err = errors.Join(err, unix.Close(m.fd))
	}
	k.maps = nil
	return err
}

// FD returns the program's file descriptor, which is the Prog's.
func (k *Prog) FD() int { return k.fd }

// Map returns map i of the program.
func (k *Prog) Map(i int) *Map { return k.maps[i] }

// JITLen returns the size of the kernel's machine code in bytes, 0 if it interprets.
func (k *Prog) JITLen() (int, error) {
	pi, e := infoOf(k.fd)
	if e != 0 {
		return 0, fmt.Errorf("program info: %w", e)
	}
	return int(pi.jitedLen), nil
}

// text returns what stands before the first NUL.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// reason returns the last line of a log that is no statistics.
func reason(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	stats := func(l string) bool {
		return strings.HasPrefix(l, "processed ") || strings.HasPrefix(l, "verification time ") || strings.HasPrefix(l, "stack depth ")
	}
	lines = slices.DeleteFunc(lines, stats)
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
