package verifier

// This file has what iterators over objects of the kernel hand to their programs (bpf_iter_reg.ctx_arg_info).

const (
	orNull        = ptrToBTF | maybeNull
	trustedOrNull = orNull | trusted
	bufOrNull     = ptrToBuf | maybeNull
)

// iterators are the arguments of each iterator's function, behind the first, by their offset. Their own prototypes declare some
// as another structure than it is.
var iterators = map[string]map[int]ctxArg{
	"bpf_link":           {8: {typ: orNull}},
	"bpf_map":            {8: {typ: trustedOrNull}},
	"bpf_map_elem":       {16: {typ: bufOrNull | rdonly}, 24: {typ: bufOrNull}},
	"bpf_prog":           {8: {typ: orNull}},
	"bpf_sk_storage_map": {16: {typ: orNull}, 24: {typ: bufOrNull}},
	"cgroup":             {8: {typ: trustedOrNull}},
	"dmabuf":             {8: {typ: orNull}},
	"ipv6_route":         {8: {typ: orNull}},
	"kmem_cache":         {8: {typ: trustedOrNull}},
	"ksym":               {8: {typ: orNull}},
	"netlink":            {8: {typ: orNull}},
	"sockmap":            {16: {typ: bufOrNull | rdonly}, 24: {typ: orNull}},
	"task":               {8: {typ: trustedOrNull}},
	"task_file":          {8: {typ: orNull}, 24: {typ: orNull}},
	"task_vma":           {8: {typ: orNull}, 16: {typ: orNull}},
	"tcp":                {8: {typ: trustedOrNull}},
	"udp":                {8: {typ: trustedOrNull}},
	"unix":               {8: {typ: orNull}},
}

// iterTarget: the function of an iterator has the fields of the context as its parameters.
func (e *env) iterTarget() error {
	name := "bpf_iter_" + e.prog.AttachTo
	proto := e.kernelFunc(name)
	if proto == nil {
		return e.noTarget("iterator", e.prog.AttachTo)
	}
	if err := e.distill(name, proto); err != nil {
		return err
	}
	args, ok := iterators[e.prog.AttachTo]
	if !ok {
		return e.reject(CodeBTF, "%s is not an iterator", name)
	}
	*e.target = target{name: name, proto: proto, args: args, trusted: true}
	return nil
}
