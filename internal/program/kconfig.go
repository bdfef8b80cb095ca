package program

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// putKconfig stores the text of a configuration value in a variable of the given type (libbpf's rules): y and n for a
// bool, y, n, m for a char or for libbpf_tristate, a number for integers, a quoted string for an array of char.
func putKconfig(b []byte, t btf.Type, value string) error {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Enum:
		if t.Name != "libbpf_tristate" {
			return fmt.Errorf("enum %s cannot hold a configuration value", t.Name)
		}
		n, ok := map[string]uint64{"n": 0, "y": 1, "m": 2}[value]
		if !ok {
			return fmt.Errorf("%q is no tristate", value)
		}
		return putUint(b, n)
	case *btf.Array:
		s, err := strconv.Unquote(value)
		if err != nil {
			return fmt.Errorf("%q is no string in quotes", value)
		}
		copy(b, s) // cut off where the array is shorter, as cilium/ebpf and libbpf do
		return nil
	case *btf.Int:
		return putKconfigInt(b, t, value)
	}
	return fmt.Errorf("a %T cannot hold a configuration value", t)
}

func putKconfigInt(b []byte, t *btf.Int, value string) error {
	switch {
	case t.Encoding == btf.Bool:
		n, ok := map[string]uint64{"n": 0, "y": 1, "0": 0, "1": 1}[value]
		if !ok {
			return fmt.Errorf("%q is no bool", value)
		}
		return putUint(b, n)
	case t.Size == 1 && (value == "y" || value == "n" || value == "m"):
		return putUint(b, uint64(value[0]))
	}
	if n, err := strconv.ParseInt(value, 0, 64); err == nil && n < 0 {
		if bits := 8 * len(b); bits < 64 && n < -1<<(bits-1) {
			return fmt.Errorf("%d does not fit into %d bytes", n, len(b))
		}
		return putUint(b, uint64(n)<<(64-8*len(b))>>(64-8*len(b)))
	}
	n, err := strconv.ParseUint(value, 0, 64)
	if err != nil {
		return fmt.Errorf("%q is no number", value)
	}
	return putUint(b, n)
}

// hostKconfig looks a value up in the host kernel's configuration, which is read once, and answers for the virtual
// variables of libbpf. Without a configuration it knows only those.
func hostKconfig(name string) (string, bool) {
	switch name {
	case "LINUX_KERNEL_VERSION":
		return strconv.FormatUint(uint64(hostVersion()), 10), true
	case "LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER":
		return "1", true
	}
	v, ok := hostConfig()[name]
	return v, ok
}

// hostVersion returns the host kernel's version as KERNEL_VERSION encodes it, 0 where there is none.
func hostVersion() uint32 {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return 0
	}
	var major, minor, patch uint32
	if n, _ := fmt.Sscanf(string(b), "%d.%d.%d", &major, &minor, &patch); n < 2 {
		return 0
	}
	return major<<16 | minor<<8 | min(patch, 255)
}

var hostConfig = sync.OnceValue(func() map[string]string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	for _, path := range []string{"/proc/config.gz", "/boot/config-" + strings.TrimSpace(string(release))} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(path, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				continue
			}
		}
		values := map[string]string{}
		for s := bufio.NewScanner(r); s.Scan(); {
			if k, v, ok := strings.Cut(s.Text(), "="); ok && strings.HasPrefix(k, "CONFIG_") {
				values[k] = v
			}
		}
		return values
	}
	return nil
})
