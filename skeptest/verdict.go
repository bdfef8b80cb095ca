package skeptest

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
)

// What XDP programs return (enum xdp_action).
const (
	XDPAborted uint32 = iota
	XDPDrop
	XDPPass
	XDPTx
	XDPRedirect
)

// What tc programs return (linux/pkt_cls.h).
const (
	TCActUnspec     = ^uint32(0) // -1
	TCActOK         = uint32(0)
	TCActReclassify = uint32(1)
	TCActShot       = uint32(2)
	TCActPipe       = uint32(3)
	TCActStolen     = uint32(4)
	TCActQueued     = uint32(5)
	TCActRepeat     = uint32(6)
	TCActRedirect   = uint32(7)
	TCActTrap       = uint32(8)
)

// xdpNames and tcNames are by value; -1 is TC_ACT_UNSPEC.
var (
	xdpNames = []string{"XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"}
	tcNames  = []string{
		"TC_ACT_OK", "TC_ACT_RECLASSIFY", "TC_ACT_SHOT", "TC_ACT_PIPE", "TC_ACT_STOLEN", "TC_ACT_QUEUED", "TC_ACT_REPEAT", "TC_ACT_REDIRECT",
		"TC_ACT_TRAP",
	}
)

const tcUnspec = "TC_ACT_UNSPEC"

// verdictText is a return value as a program of that type means it: "XDP_PASS (2)".
func verdictText(t ebpf.ProgramType, v uint32) string {
	var names []string
	switch t {
	case ebpf.XDP:
		names = xdpNames
	case ebpf.SchedCLS, ebpf.SchedACT:
		if names = tcNames; v == TCActUnspec {
			return tcUnspec + " (-1)"
		}
	}
	switch {
	case uint64(v) < uint64(len(names)):
		return fmt.Sprintf("%s (%d)", names[v], v)
	case int32(v) < 0:
		return fmt.Sprintf("%d (%d)", v, int32(v))
	}
	return strconv.FormatUint(uint64(v), 10)
}

// parseVerdict reads a name or a number.
func parseVerdict(s string) (uint32, error) {
	for _, names := range [][]string{xdpNames, tcNames} {
		if i := slices.Index(names, s); i >= 0 {
			return uint32(i), nil
		}
	}
	if s == tcUnspec {
		return TCActUnspec, nil
	}
	if v, err := strconv.ParseUint(s, 0, 32); err == nil {
		return uint32(v), nil
	}
	if v, err := strconv.ParseInt(s, 0, 32); err == nil {
		return uint32(v), nil
	}
	return 0, fmt.Errorf("%q is neither a number of 32 bits nor a name such as XDP_PASS or TC_ACT_OK", s)
}
