package skeptest

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/btfvalue"
	"github.com/skep-bpf/skep/internal/packetdiff"
)

// compare compares what a run returned with what the step wants.
func (r *run) compare(c *Case, res *skep.RunResult, in []byte, o *ebpf.RunOptions) {
	t := r.prog.Type()
	if res.Return != c.Want && !c.AnyReturn {
		r.failf("return value: got %s, want %s", verdictText(t, res.Return), verdictText(t, c.Want))
	}
	if c.WantPacket != nil {
		for _, d := range packetdiff.Diff(packetStart(t), o.DataOut, c.WantPacket) {
			r.failf("packet: %s", d)
		}
	}
	if got, _ := o.ContextOut.([]byte); c.WantContext != nil {
		want, err := encodeAny(c.WantContext)
		if err != nil {
			r.failf("WantContext: %v", err)
			return
		}
		r.diff("context", nil, c.WantContext, got, want)
	}
	if c.WantRedirect != nil && res.Redirect != *c.WantRedirect {
		r.failf("redirect: got %s, want %s", redirectText(res.Redirect), redirectText(*c.WantRedirect))
	}
}

// packetStart is what the packets of a program type begin with.
func packetStart(t ebpf.ProgramType) packetdiff.Start {
	switch t {
	case ebpf.CGroupSKB, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.LWTSeg6Local:
		return packetdiff.IP
	}
	return packetdiff.Ethernet
}

func redirectText(d skep.Redirect) string {
	switch {
	case !d.Set:
		return "none"
	case d.Map != "":
		return fmt.Sprintf("key %d of map %s, flags %#x", d.Key, d.Map, d.Flags)
	}
	return fmt.Sprintf("interface %d, flags %#x", d.IfIndex, d.Flags)
}

// diff notes how bytes differ. t is their type by BTF, v the Go value that want comes from; either shows what the bytes mean.
func (r *run) diff(what string, t btf.Type, v any, got, want []byte) {
	for _, d := range btfvalue.Diff(typeOf(t, v, len(want)), got, want) {
		if d[0] != '.' && d[0] != '[' {
			d = ": " + d
		}
		r.failf("%s%s", what, d)
	}
}

// compareVars compares variables.
func (r *run) compareVars(vars map[string]any) error {
	return r.eachVar("VarsAfter", vars, func(name string, v *skep.Variable, want []byte) error {
		got := make([]byte, v.Size())
		if err := v.Get(&got); err != nil {
			return err
		}
		var t btf.Type
		if v.Type() != nil {
			t = v.Type().Type
		}
		r.diff("variable "+name, t, vars[name], got, want)
		return nil
	})
}
