package verifier

import (
	"regexp"
	"strings"
)

// remedies are what usually helps, by code and by words of the message; the first row that fits is taken. Those without words stand
// last of their code.
var remedies = []struct {
	code  Code
	words *regexp.Regexp // in the message, its notes or the value at fault; nil fits all
	help  []string
}{
	{CodeBadInsn, nil, []string{"compile for a target that this instruction belongs to (clang -mcpu=v1 to v4), or correct the encoding"}},
	{CodeControlFlow, regexp.MustCompile(`unreachable`), []string{"take out the code that nothing reaches, or correct the jump that should lead there"}},
	{CodeControlFlow, regexp.MustCompile(`back-edge`), []string{"loops need CAP_BPF: unroll it (#pragma unroll), or load with privileges"}},
	{CodeControlFlow, nil, []string{"end every function with an exit, and keep jumps inside of it"}},
	{CodeUninit, regexp.MustCompile(`stack`), []string{"initialise all bytes of it before they are read: struct x v = {}; padding counts, too"}},
	{CodeUninit, nil, []string{"give it a value on every path that leads here", "a call leaves r1 to r5 unreadable: keep what is needed later in r6 to r9 or on the stack"}},
	{CodeType, regexp.MustCompile(`invalid mem access 'scalar'`), []string{"what is dereferenced is a number: it was never a pointer, or it stopped being one on the way (see above)"}},
	{CodeType, regexp.MustCompile(`invalid mem access 'inv'|rcu_|untrusted`), []string{"the pointer is not trusted any more: read through it with bpf_probe_read_kernel or BPF_CORE_READ"}},
	{CodeType, nil, []string{"pass the kind of pointer or number that the message names"}},
	{CodeBounds, regexp.MustCompile(`packet`), []string{"compare first: if (p + size > data_end) return ...; with the same p and size, after the last call that can move the packet"}},
	{CodeBounds, regexp.MustCompile(`map value|map_value`), []string{"bound the index first: if (i >= N) return ...; or mask it: i &= N - 1, if N is a power of two"}},
	{CodeBounds, regexp.MustCompile(`min value is negative|min value is outside`), []string{"make it unsigned, or check that it is not negative: if (i < 0) return ..."}},
	{CodeBounds, regexp.MustCompile(`unbounded memory access|max value is outside`), []string{"bound it from above: if (n > MAX) return ...; or mask it: n &= MAX"}},
	{CodeBounds, regexp.MustCompile(`stack`), []string{"the stack of a function has 512 bytes, from fp-512 to fp-1: bound the offset"}},
	{CodeBounds, nil, []string{"bound offset and size so that the access stays inside"}},
	{CodePermission, regexp.MustCompile(`context|ctx`), []string{"this program type has no such field, or not for this kind of access: see the table of its context"}},
	{CodePermission, regexp.MustCompile(`read-?only|rdonly|forbidden`), []string{"the memory is read-only: write to another map, or leave out BPF_F_RDONLY_PROG"}},
	{CodePermission, nil, []string{"use a program type or a map that permits it"}},
	{CodeAlignment, nil, []string{"align the offset to the size of the access, or access it byte by byte"}},
	{CodePointerMath, regexp.MustCompile(`unbounded|out of range|value -?\d+ makes`), []string{"bound the number before it is added to the pointer"}},
	{CodePointerMath, regexp.MustCompile(`_or_null`), []string{"compare the pointer with NULL before anything is added to it"}},
	{CodePointerMath, nil, []string{"only numbers can be added to or subtracted from a pointer: do the arithmetic on the number, and add that"}},
	{CodeNull, nil, []string{"compare it with NULL first: if (!p) return ...;"}},
	{CodeCall, regexp.MustCompile(`GPL`), []string{`declare a licence that is compatible: char _license[] SEC("license") = "GPL";`}},
	{CodeCall, regexp.MustCompile(`program of this type cannot use helper|not allowed`), []string{"use a helper or kfunc that this program type has, or another program type"}},
	{CodeCall, regexp.MustCompile(`sleep`), []string{`make the program sleepable (SEC("....s")), or use something that does not sleep`}},
	{CodeCall, nil, []string{"compare the call with the prototype of what is called"}},
	{CodeStackArgs, regexp.MustCompile(`not initialized`), []string{"store every argument from the sixth on at r11-8*(N-5) before the call; calls leave none of them"}},
	{CodeStackArgs, regexp.MustCompile(`must be before`), []string{"load all incoming arguments at the start of the function, before any store through r11 and any call"}},
	{CodeStackArgs, nil, []string{"docs/calling-convention.md has the rules of arguments six to twelve"}},
	{CodeReference, regexp.MustCompile(`Unreleased reference`), []string{"release it on every path, those that end early because of an error, too"}},
	{CodeReference, nil, []string{"release what was acquired, once, by the pointer that the call returned, after it was compared with NULL"}},
	{CodeReturn, regexp.MustCompile(`should have been in`), []string{"return only what the program type permits; bound a value that was computed"}},
	{CodeReturn, nil, []string{"return a number"}},
	{CodeStackDepth, regexp.MustCompile(`frames|call stack`), []string{"make chains of calls shorter: inline functions (static __always_inline), or go on by a tail call"}},
	{CodeStackDepth, nil, []string{"move large variables to a per-CPU array, or make functions noinline so that their stacks do not add up in one"}},
	{CodeInfiniteLoop, nil, []string{"change something in every round that the condition looks at; or loop by bpf_for, bpf_loop or may_goto"}},
	{CodeTooComplex, nil, []string{"loop by bpf_for, bpf_loop or may_goto, whose rounds are not all walked", "split the program: global functions are verified once, whoever calls them"}},
	{CodeBTF, nil, []string{"compile with -g, and give parameters of global functions types whose size is known"}},
	{CodeUnsupported, nil, []string{"skep does not have this yet: the kernel may well accept the program"}},
	{CodeInternal, nil, []string{"if this is not the case of docs/rejections.md, please report it"}},
}

// helpFor returns the remedies for a rejection.
func helpFor(r *Report) []string {
	for i := range r.Story {
		if e := &r.Story[i]; e.Kind == EventLost && strings.HasPrefix(e.Before, "pkt") {
			return []string{"the call can move the packet: read data and data_end from the context again after it, and compare again"}
		}
	}
	text := strings.Join(append([]string{r.Message, r.Value}, r.Notes...), "\n")
	for i := range remedies {
		if m := &remedies[i]; m.code == r.Code && (m.words == nil || m.words.MatchString(text)) {
			return m.help
		}
	}
	return nil
}
