package difftest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	objPrograms = flag.Int("object-programs", 600, "random programs on objects of their own, lists and trees that both verifiers judge")
	objSeed     = flag.Uint64("object-seed", 1, "seed of the first of them")
)

const objTypes = `
.struct bpf_spin_lock { u32 val; }
.struct bpf_list_head { u64 opaque[2]; }
.struct bpf_list_node { u64 opaque[3]; }
.struct bpf_rb_root { u64 opaque[2]; }
.struct bpf_rb_node { u64 opaque[4]; }
.struct bpf_refcount { u32 opaque; }
.struct other { long a; long b; }
.typeid other_type other
`

// objKinds are the kinds of objects: their structure, the members that link them (-1 for none), and a member that is a number.
var objKinds = []struct {
	decl             string
	list, tree, data int
	counted          bool
}{
	{".struct item { long key; struct bpf_list_node l; }", 8, -1, 0, false},
	{".struct item { struct bpf_rb_node r; long key; }", -1, 0, 32, false},
	{".struct item { struct bpf_list_node l; struct bpf_rb_node r; struct bpf_refcount n; long key; }", 0, 24, 64, true},
	{".struct item { long key; struct bpf_rb_node r; struct other __kptr *o; }", -1, 8, 0, false},
	{".struct item { struct bpf_spin_lock lock; long key; struct bpf_list_node l; struct bpf_list_node m; }", 16, -1, 8, false},
}

// ownsOther is the kind whose objects have a pointer to another object.
const ownsOther = 3

// what a register of the program is thought to hold.
type objHeld uint8

const (
	holdsNothing objHeld = iota
	holdsMaybe           // an object that the program owns, or NULL
	holdsOwned
	holdsBorrowed // an object that a list or tree owns
)

// objGen makes the text of a random program. It goes by what it thinks to hold most of the time, so that some programs are valid.
type objGen struct {
	*rand.Rand
	kind   int
	sense  int // one of so many steps does not go by what is right
	locked bool
	regs   [3]objHeld // r7 to r9
	code   strings.Builder
	labels int
}

func (g *objGen) emit(format string, args ...any) { fmt.Fprintf(&g.code, format+"\n", args...) }

// wild reports whether the next step shall not go by what is right.
func (g *objGen) wild() bool { return g.IntN(g.sense) == 0 }

// reg picks a register that holds one of the kinds, any if there is none or the step is wild; ok is false if there is none.
func (g *objGen) reg(want ...objHeld) (i int, ok bool) {
	var fit []int
	for i, h := range g.regs {
		if slices.Contains(want, h) {
			fit = append(fit, i)
		}
	}
	switch {
	case g.wild():
		return g.IntN(len(g.regs)), true
	case len(fit) == 0:
		return 0, false
	}
	return fit[g.IntN(len(fit))], true
}

// calm is the sense of programs that hardly ever do what is not right.
const calm = 1000

// Places in the map's value.
const (
	atLock = 0
	atList = 8
	atTree = 24
	atKptr = 40
)

// step adds one step of the program.
func (g *objGen) step() {
	k := objKinds[g.kind]
	switch g.IntN(15) {
	case 0, 1:
		g.alloc()
	case 2, 3:
		g.checkNull()
	case 4:
		g.drop()
	case 5, 6:
		g.toggleLock()
	case 7, 8:
		if k.list >= 0 || g.wild() {
			g.list(max(k.list, 0))
		}
	case 9, 10:
		if k.tree >= 0 || g.wild() {
			g.tree(max(k.tree, 0))
		}
	case 11:
		g.access(k.data)
	case 12:
		g.exchange()
	case 13:
		g.count(k.counted)
	case 14:
		if k.list >= 0 {
			g.box(k.list)
		}
	}
}

// box puts an object into the list of another object, which has its own lock, takes one out again or not, and gives that object back.
func (g *objGen) box(node int) {
	i, ok := g.reg(holdsOwned)
	if !ok || g.locked && !g.wild() {
		return
	}
	g.labels++
	n := g.labels
	g.emit("r1 = box_type\nr2 = 0\ncall bpf_obj_new_impl\nif r0 == 0 goto no%d\n*(u64 *)(r10 - 24) = r0", n)
	if !g.wild() {
		g.emit("r1 = r0\ncall bpf_spin_lock")
	}
	g.emit("r1 = *(u64 *)(r10 - 24)\nr1 += 8\nr2 = r%d\nr2 += %d\nr3 = 0\nr4 = 0\ncall bpf_list_push_back_impl", 7+i, node)
	if g.IntN(2) == 0 {
		g.emit("r1 = %s\nr1 += 8\ncall bpf_list_pop_front", []string{"*(u64 *)(r10 - 24)", "r6"}[g.IntN(g.sense)/(g.sense-1)])
		g.emit("if r0 != 0 goto in%d\nr0 = 0\nin%d:\n*(u64 *)(r10 - 32) = r0", n, n)
	} else {
		g.emit("*(u64 *)(r10 - 32) = 0")
	}
	if !g.wild() {
		g.emit("r1 = *(u64 *)(r10 - 24)\ncall bpf_spin_unlock")
	}
	g.emit("r1 = *(u64 *)(r10 - 24)\nr2 = 0\ncall bpf_obj_drop_impl\nr1 = *(u64 *)(r10 - 32)\nif r1 == 0 goto out%d\nr1 += %d\nr2 = 0\ncall bpf_obj_drop_impl", n, -node)
	g.emit("goto out%d\nno%d:\nr1 = r%d\nr2 = 0\ncall bpf_obj_drop_impl\nout%d:\nr%d = 0", n, n, 7+i, n, 7+i)
	g.regs[i] = holdsNothing
}

// stock puts a few objects where the program can find them.
func (g *objGen) stock() {
	k := objKinds[g.kind]
	for range 1 + g.IntN(4) {
		g.emit("r1 = item_type\nr2 = 0\ncall bpf_obj_new_impl\nr7 = r0")
		g.endIfNull(7, 0)
		g.emit("r1 = %d\n*(u64 *)(r7 + %d) = r1", g.IntN(9), k.data)
		switch {
		case g.IntN(4) == 0:
			g.labels++
			g.emit("r1 = r6\nr1 += %d\nr2 = r7\ncall bpf_kptr_xchg\nif r0 == 0 goto no%d", atKptr, g.labels)
			g.emit("r1 = r0\nr2 = 0\ncall bpf_obj_drop_impl\nno%d:", g.labels)
		case k.list >= 0 && (k.tree < 0 || g.IntN(2) == 0):
			g.emit("r1 = r6\ncall bpf_spin_lock\nr1 = r6\nr1 += %d\nr2 = r7\nr2 += %d\nr3 = 0\nr4 = 0\ncall bpf_list_push_back_impl", atList, k.list)
			g.emit("r1 = r6\ncall bpf_spin_unlock")
		default:
			g.emit("r1 = r6\ncall bpf_spin_lock\nr1 = r6\nr1 += %d\nr2 = r7\nr2 += %d\nr3 = less ll\nr4 = 0\nr5 = 0\ncall bpf_rbtree_add_impl", atTree, k.tree)
			g.emit("r1 = r6\ncall bpf_spin_unlock")
		}
		g.emit("r7 = 0")
	}
}

func (g *objGen) alloc() {
	i, ok := g.reg(holdsNothing, holdsBorrowed)
	if !ok || g.locked && !g.wild() {
		return
	}
	g.emit("r1 = item_type\nr2 = 0\ncall bpf_obj_new_impl\nr%d = r0", 7+i)
	g.regs[i] = holdsMaybe
}

func (g *objGen) checkNull() {
	i, ok := g.reg(holdsMaybe)
	if !ok {
		return
	}
	g.endIfNull(7+i, i)
	g.regs[i] = holdsOwned
}

// endIfNull ends the program where register r is NULL; g.regs[i] holds nothing there.
func (g *objGen) endIfNull(r, i int) {
	g.labels++
	n := g.labels
	g.emit("if r%d != 0 goto ok%d", r, n)
	regs, locked := g.regs, g.locked
	g.regs[i] = holdsNothing
	g.finish()
	g.regs, g.locked = regs, locked
	g.emit("ok%d:", n)
}

// finish ends the program with nothing held, as far as is known.
func (g *objGen) finish() {
	if g.locked {
		g.emit("r1 = r6\ncall bpf_spin_unlock")
		g.locked = false
		g.unborrow()
	}
	for i, h := range g.regs {
		switch h {
		case holdsMaybe:
			g.labels++
			g.emit("if r%d == 0 goto no%d\nr1 = r%d\nr2 = 0\ncall bpf_obj_drop_impl\nno%d:", 7+i, g.labels, 7+i, g.labels)
		case holdsOwned:
			g.emit("r1 = r%d\nr2 = 0\ncall bpf_obj_drop_impl", 7+i)
		}
	}
	g.emit("r0 = 0\nexit")
}

func (g *objGen) unborrow() {
	for i, h := range g.regs {
		if h == holdsBorrowed {
			g.regs[i] = holdsNothing
		}
	}
}

func (g *objGen) drop() {
	if i, ok := g.reg(holdsOwned); ok && (!g.locked || g.wild()) {
		g.emit("r1 = r%d\nr2 = 0\ncall bpf_obj_drop_impl", 7+i)
		g.regs[i] = holdsNothing
	}
}

func (g *objGen) toggleLock() {
	lock := !g.locked
	if g.wild() {
		lock = !lock
	}
	if lock {
		g.emit("r1 = r6\ncall bpf_spin_lock")
	} else {
		g.emit("r1 = r6\ncall bpf_spin_unlock")
		g.unborrow()
	}
	g.locked = lock
}

// list pushes into the list or takes out of it.
func (g *objGen) list(node int) {
	if !g.locked && !g.wild() {
		return
	}
	end := []string{"front", "back"}[g.IntN(2)]
	switch g.IntN(3) {
	case 0:
		if i, ok := g.reg(holdsOwned); ok {
			g.emit("r1 = r6\nr1 += %d\nr2 = r%d\nr2 += %d\nr3 = 0\nr4 = 0\ncall bpf_list_push_%s_impl", atList, 7+i, node, end)
			g.note(0)
			g.regs[i] = holdsBorrowed
		}
	case 1:
		if i, ok := g.reg(holdsNothing, holdsBorrowed); ok {
			g.emit("r1 = r6\nr1 += %d\ncall bpf_list_pop_%s", atList, end)
			g.take(i, node, holdsOwned)
		}
	case 2:
		if i, ok := g.reg(holdsNothing, holdsBorrowed); ok {
			g.emit("r1 = r6\nr1 += %d\ncall bpf_list_%s", atList, end)
			g.take(i, node, holdsBorrowed)
		}
	}
}

// take checks the object that r0 may be and keeps it.
func (g *objGen) take(i, node int, h objHeld) {
	g.endIfNull(0, i)
	g.emit("r%d = r0\nr%d += %d", 7+i, 7+i, -node)
	g.regs[i] = h
}

// tree adds to the tree, or looks for objects in it, or removes them.
func (g *objGen) tree(node int) {
	if !g.locked && !g.wild() {
		return
	}
	switch g.IntN(4) {
	case 0:
		if i, ok := g.reg(holdsOwned); ok {
			g.emit("r1 = r6\nr1 += %d\nr2 = r%d\nr2 += %d\nr3 = less ll\nr4 = 0\nr5 = 0\ncall bpf_rbtree_add_impl", atTree, 7+i, node)
			g.note(0)
			g.regs[i] = holdsBorrowed
		}
	case 1:
		if i, ok := g.reg(holdsNothing, holdsBorrowed); ok {
			g.emit("r1 = r6\nr1 += %d\ncall bpf_rbtree_%s", atTree, []string{"first", "root"}[g.IntN(2)])
			g.take(i, node, holdsBorrowed)
		}
	default:
		from, ok := g.reg(holdsBorrowed)
		to, ok2 := g.reg(holdsNothing, holdsBorrowed)
		if !ok || !ok2 {
			return
		}
		what, h := []string{"left", "right", "remove", "remove"}[g.IntN(4)], holdsBorrowed
		if what == "remove" {
			h = holdsOwned
		}
		g.emit("r1 = r6\nr1 += %d\nr2 = r%d\nr2 += %d\ncall bpf_rbtree_%s", atTree, 7+from, node, what)
		g.take(to, node, h)
	}
}

// note mixes a number that a run found into a member of the map's value.
func (g *objGen) note(r int) {
	g.emit("r2 = *(u32 *)(r6 + 4)\nr2 *= 31\nr2 += r%d\n*(u32 *)(r6 + 4) = r2", r)
}

// access reads or writes an object, or what is next to a field in it.
func (g *objGen) access(data int) {
	i, ok := g.reg(holdsOwned, holdsBorrowed)
	if !ok {
		return
	}
	if g.wild() {
		data = 8 * g.IntN(12)
	}
	switch g.IntN(4) {
	case 0:
		g.emit("r1 = *(u%d *)(r%d + %d)", 8<<g.IntN(4), 7+i, data)
		g.note(1)
	case 1:
		g.emit("*(u64 *)(r%d + %d) = 1", 7+i, data)
	case 2:
		g.emit("*(u64 *)(r10 - 8) = r%d\nr%d = *(u64 *)(r10 - 8)", 7+i, 7+i)
	case 3:
		g.emit("r1 = 1\nlock *(u64 *)(r%d + %d) += r1", 7+i, data)
	}
}

// exchange gives an object to the pointer in the map's value, or reads that.
func (g *objGen) exchange() {
	if g.locked && !g.wild() {
		return
	}
	if i, ok := g.reg(holdsOwned); ok && g.kind == ownsOther && g.IntN(2) == 0 {
		g.labels++
		g.emit("r1 = other_type\nr2 = 0\ncall bpf_obj_new_impl\nif r0 == 0 goto no%d\nr1 = r%d\nr1 += 40\nr2 = r0\ncall bpf_kptr_xchg", g.labels, 7+i)
		g.emit("if r0 == 0 goto no%d\nr1 = r0\nr2 = 0\ncall bpf_obj_drop_impl\nno%d:", g.labels, g.labels)
		return
	}
	if g.IntN(3) == 0 {
		if i, ok := g.reg(holdsNothing, holdsBorrowed); ok {
			g.emit("r%d = *(u64 *)(r6 + %d)", 7+i, atKptr)
			g.endIfNull(7+i, i)
			g.regs[i] = holdsBorrowed
		}
		return
	}
	if i, ok := g.reg(holdsOwned); ok {
		g.emit("r1 = r6\nr1 += %d\nr2 = r%d\ncall bpf_kptr_xchg\nr%d = r0", atKptr, 7+i, 7+i)
		g.regs[i] = holdsMaybe
	}
}

// count makes the program another owner of an object.
func (g *objGen) count(counted bool) {
	from, ok := g.reg(holdsOwned, holdsBorrowed)
	to, ok2 := g.reg(holdsNothing, holdsBorrowed)
	if !ok || !ok2 || !counted && !g.wild() {
		return
	}
	g.emit("r1 = r%d\nr2 = 0\ncall bpf_refcount_acquire_impl\nr%d = r0", 7+from, 7+to)
	if g.regs[from] == holdsOwned {
		g.regs[to] = holdsOwned
	} else {
		g.regs[to] = holdsMaybe
	}
}

// objProgram is the text of the program of a seed.
func objProgram(seed uint64) string {
	g := &objGen{Rand: rand.New(rand.NewPCG(seed, 23))}
	g.kind, g.sense = g.IntN(len(objKinds)), []int{calm, 60, 30, 8}[g.IntN(4)]
	k := objKinds[g.kind]
	list, tree := "u64 l[2];", "u64 t[2];"
	if k.list >= 0 {
		list = "struct bpf_list_head l __contains(item, l);"
	}
	if k.tree >= 0 {
		tree = "struct bpf_rb_root t __contains(item, r);"
	}
	box := "u64 l[2];"
	if k.list >= 0 {
		box = list
	}
	head := objTypes + k.decl + "\n.typeid item_type item\n.struct box { struct bpf_spin_lock lock; int n; " + box + " }\n.typeid box_type box\n.struct value { struct bpf_spin_lock lock; int x; " + list + " " + tree +
		" struct item __kptr *k; }\n.map m array 4 48 2 key=int value=value\n.type tc\n"
	for _, name := range []string{"obj_new_impl", "obj_drop_impl", "list_push_front_impl", "list_push_back_impl", "list_pop_front", "list_pop_back",
		"list_front", "list_back", "rbtree_add_impl", "rbtree_remove", "rbtree_first", "rbtree_root", "rbtree_left", "rbtree_right",
		"refcount_acquire_impl"} {
		head += ".kfunc void *bpf_" + name + "(void) unresolved\n"
	}
	g.emit(".func int prog(void *ctx) global\n*(u32 *)(r10 - 16) = %d\nr1 = map[m] ll\nr2 = r10\nr2 += -16\ncall bpf_map_lookup_elem", g.IntN(3))
	g.emit("if r0 == 0 goto out\nr6 = r0\nr1 = less ll\nr7 = 0\nr8 = 0\nr9 = 0")
	if g.IntN(4) != 0 {
		g.stock()
	}
	for range 4 + g.IntN(16) {
		g.step()
		for n := g.code.Len(); g.sense == calm && g.code.Len() == n; { // until there is one that makes sense
			g.step()
		}
	}
	g.finish()
	g.emit("out:\nr0 = 0\nexit\n.func long less(void *a, void *b)")
	switch g.IntN(4) {
	case 0:
		g.emit("r0 = *(u64 *)(r1 + %d)\nr0 &= 1", k.data-max(k.tree, 0))
	case 1:
		g.emit("r0 = %d", g.IntN(3))
	default:
		g.emit("r0 = 1\nr3 = *(u64 *)(r1 + %d)\nr4 = *(u64 *)(r2 + %d)\nif r3 < r4 goto +1\nr0 = 0", k.data-max(k.tree, 0), k.data-max(k.tree, 0))
	}
	g.emit("exit")
	return head + g.code.String()
}

// TestObjects has both verifiers judge random programs that allocate objects, put them into a list, a tree and a pointer of a map's
// value under its lock, take them out, and read and write them.
func TestObjects(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	accepted, refused, differ := 0, 0, 0
	for i := range *objPrograms {
		seed := *objSeed + uint64(i)
		src := objProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		v, err := judge(p, 0, 0)
		switch d := disagree(p, v, err); {
		case errors.Is(err, syscall.EFAULT) && !v.Ours: // the kernel contradicts itself where a pointer that may be NULL is exchanged
			refused++
		case d != "":
			if differ++; differ <= 6 {
				t.Errorf("go test ./internal/difftest -run TestObjects -object-seed %d -object-programs 1\n%s%s", seed, src, d)
			}
		case v.Ours:
			accepted++
		default:
			refused++
		}
	}
	t.Logf("both accept %d, both refuse %d, %d differ", accepted, refused, differ)
}
