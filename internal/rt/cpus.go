package rt

import "runtime"

// cpus is fixed at start: per-CPU values have this many slots, and so many programs can run at a time.
var cpus = max(runtime.NumCPU(), runtime.GOMAXPROCS(0))

// PossibleCPUs returns the number of CPU slots: how many programs can run at the same time and how many values an
// element of a per-CPU map has. A slot belongs to an execution context, not to a processor of the machine; a program
// sees its slot as bpf_get_smp_processor_id. The number does not change while the process lives.
func PossibleCPUs() int { return cpus }
