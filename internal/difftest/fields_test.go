package difftest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	fieldPrograms = flag.Int("field-programs", 600, "random programs on special fields of map values that both verifiers judge")
	fieldSeed     = flag.Uint64("field-seed", 1, "seed of the first of them")
)

// fieldTypes are the structures that values can have as fields, with the sizes that the kernel wants, and what they can hold.
const fieldTypes = `
.struct bpf_spin_lock { u32 val; }
.struct bpf_res_spin_lock { u32 val; }
.struct bpf_timer { u64 opaque[2]; }
.struct bpf_wq { u64 opaque[2]; }
.struct bpf_task_work { u64 opaque; }
.struct bpf_list_head { u64 opaque[2]; }
.struct bpf_list_node { u64 opaque[3]; }
.struct bpf_rb_root { u64 opaque[2]; }
.struct bpf_rb_node { u64 opaque[4]; }
.struct bpf_refcount { u32 opaque; }
.struct task_struct { int pid; }
.struct sk_buff { int len; }
.struct plain { long a; long b; }
.struct item { long key; struct bpf_list_node l; }
.struct leaf { struct bpf_rb_node r; long key; }
.struct both { struct bpf_list_node l; struct bpf_rb_node r; struct bpf_refcount n; }
.typeid item_type item
`

// fieldGen makes the text of a random program on the value of a map.
type fieldGen struct {
	*rand.Rand
	nested int
	decls  strings.Builder
}

func (g *fieldGen) pick(list ...string) string { return list[g.IntN(len(list))] }

// member is one member of a value, or a number in its place.
func (g *fieldGen) member(name string) string {
	dim := ""
	if g.IntN(6) == 0 {
		dim = fmt.Sprintf("[%d]", 1+g.IntN(4))
	}
	switch g.IntN(8) {
	case 0, 1:
		return "struct " + g.pick("bpf_spin_lock", "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_refcount",
			"bpf_list_node", "bpf_rb_node") + " " + name + dim + ";"
	case 2:
		kind := g.pick("bpf_list_head", "bpf_rb_root")
		holds := g.pick("item, l", "item, l", "leaf, r", "leaf, r", "both, l", "both, r", "item, key", "absent, l", "plain, a")
		return "struct " + kind + " " + name + dim + g.pick("", " __contains("+holds+")", " __contains("+holds+")", " __contains("+holds+")") + ";"
	case 3, 4:
		return "struct " + g.pick("task_struct", "task_struct", "sk_buff", "plain", "item") + " " +
			g.pick("__kptr", "__kptr", "__kptr_untrusted", "__percpu_kptr", "__uptr") + " *" + name + dim + ";"
	case 5:
		if g.nested < 3 {
			g.nested++
			return "struct " + g.structure(fmt.Sprintf("nested%d", g.nested), 1+g.IntN(2)) + " " + name + dim + ";"
		}
	}
	return g.pick("int", "long", "char", "short") + " " + name + dim + ";"
}

// structure declares a structure of some members and returns its name.
func (g *fieldGen) structure(name string, members int) string {
	body := ""
	for i := range members {
		body += " " + g.member(string(rune('a'+i)))
	}
	g.decls.WriteString(".struct " + name + " {" + body + " }\n")
	return name
}

// action is code on r6, a pointer to the value, or to what is size bytes long.
func (g *fieldGen) action(size int) string {
	off := g.IntN(max(size, 1))
	if g.IntN(4) > 0 {
		off &^= 7
	}
	at := fmt.Sprintf("r1 = r6\nr1 += %d\n", off)
	switch g.IntN(9) {
	case 0, 1:
		return fmt.Sprintf("r1 = *(%s *)(r6 + %d)\n", g.pick("u8", "u16", "u32", "u64", "u64"), off)
	case 2:
		return fmt.Sprintf("r1 = %d\n*(%s *)(r6 + %d) = r1\n", g.IntN(2), g.pick("u8", "u32", "u64", "u64"), off)
	case 3:
		return at + "r2 = 0\ncall bpf_kptr_xchg\nif r0 == 0 goto +2\nr1 = r0\ncall bpf_task_release\n"
	case 4:
		return at + "call bpf_spin_lock\nr1 = r6\nr1 += " + fmt.Sprint(off) + "\ncall bpf_spin_unlock\n"
	case 5:
		return at + "r2 = map[m] ll\nr3 = 1\ncall bpf_timer_init\n"
	case 6:
		return at + "r2 = map[m] ll\nr3 = 0\ncall bpf_wq_init\n"
	case 7:
		return "r1 = map[m] ll\nr2 = r10\nr2 += -16\nr3 = r6\nr4 = 0\ncall bpf_map_update_elem\n"
	}
	return at + "call bpf_res_spin_lock\nif r0 != 0 goto +3\nr1 = r6\nr1 += " + fmt.Sprint(off) + "\ncall bpf_res_spin_unlock\n"
}

// fieldProgram is the text of the program of a seed.
func fieldProgram(seed uint64) string {
	g := &fieldGen{Rand: rand.New(rand.NewPCG(seed, 17))}
	g.structure("value", 1+g.IntN(4))
	size := valueSize(g.decls.String())
	typ := g.pick("array", "array", "array", "hash", "hash", "lru_hash", "percpu_array", "percpu_hash", "lpm_trie")
	key, flags := 4, ""
	if typ == "lpm_trie" {
		key, flags = 8, " no_prealloc"
	}
	entries, lookup := 4, "*(u64 *)(r10 - 16) = 0\nr1 = map[m] ll\nr2 = r10\nr2 += -16\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\nr6 = r0\n"
	if isSection(seed) {
		typ, key, flags, entries, lookup = "array", 4, "", 1, "*(u64 *)(r10 - 16) = 0\nr6 = map[m][0] ll\nif r6 == 0 goto out\n"
	}
	code := fieldTypes + g.decls.String() + fmt.Sprintf(".map m %s %d %d %d%s key=%s value=value\n", typ, key, size, entries, flags,
		map[int]string{4: "int", 8: "long"}[key])
	for _, k := range []string{"int bpf_task_release(struct task_struct *p)", "int bpf_wq_init(void *w, void *m, int f)",
		"int bpf_res_spin_lock(void *l)", "void bpf_res_spin_unlock(void *l)"} {
		code += ".kfunc " + k + " unresolved\n"
	}
	code += ".type " + g.pick("tc", "tc", "tc", "xdp", "tracepoint", "socket", "cgroup_skb") + "\n"
	code += ".func int prog(void *ctx) global\n" + lookup
	for range 1 + g.IntN(3) {
		code += g.action(size)
	}
	return code + "out:\nr0 = 0\nexit\n"
}

// isSection reports whether the value in a seed's program is a section of variables.
func isSection(seed uint64) bool { return seed%4 == 0 }

// toSection makes the members of the first map's value the variables of a section.
func toSection(p *program.Program) {
	m := &p.Maps[0]
	s, ok := m.Value.(*btf.Struct)
	if !ok {
		return
	}
	ds := &btf.Datasec{Name: ".data.v", Size: s.Size}
	for _, f := range s.Members {
		n, err := btf.Sizeof(f.Type)
		if err != nil {
			return
		}
		v := &btf.Var{Name: f.Name, Type: f.Type, Linkage: btf.GlobalVar, Tags: f.Tags}
		ds.Vars = append(ds.Vars, btf.VarSecinfo{Type: v, Offset: uint32(f.Offset / 8), Size: uint32(n)})
	}
	m.Key, m.Value = nil, ds
}

// valueSize is the size of struct value, whose declaration stands last.
func valueSize(decls string) int {
	p, err := asmtext.Program(fieldTypes+decls+".map m array 4 8 1 value=value\nr1 = map[m] ll\nexit\n", asmtext.ProgramOptions{})
	if err != nil {
		return 8
	}
	return sizeofValue(p)
}

// TestFields has both verifiers judge random programs on values with special fields: which members are fields, in which maps, for which
// programs, and what may touch them.
func TestFields(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	accepted, refused, none, differ := 0, 0, 0, 0
	for i := range *fieldPrograms {
		seed := *fieldSeed + uint64(i)
		src := fieldProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		if isSection(seed) {
			toSection(p)
		}
		v, err := judge(p, 0, 0)
		d := disagree(p, v, err)
		switch {
		case errors.Is(err, kernel.ErrNoVerdict):
			if none++; v.Ours && strings.Contains(err.Error(), "load BTF") {
				// The kernel takes no object with such types. We may take it if the program never has one.
				continue
			}
		case d != "":
			if differ++; differ <= 10 {
				t.Errorf("go test ./internal/difftest -run TestFields -field-seed %d -field-programs 1\n%s%s", seed, src[len(fieldTypes):], d)
			}
		case v.Ours:
			accepted++
		default:
			refused++
		}
	}
	t.Logf("both accept %d, both refuse %d, no verdict %d, %d differ", accepted, refused, none, differ)
}

// sizeofValue is the size of the type of a program's first map.
func sizeofValue(p *program.Program) int {
	n, err := btf.Sizeof(p.Maps[0].Value)
	if err != nil {
		return 8
	}
	return n
}
