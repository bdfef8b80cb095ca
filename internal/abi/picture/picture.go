// Package picture draws the frames of a call with twelve arguments as SVG, from the tables of internal/abi, so that the pictures
// of docs/calling-convention.md cannot say anything else than the compilers do. Its output is the same on every run.
package picture

import (
	"fmt"
	"strings"

	"github.com/skep-bpf/skep/internal/abi"
)

//go:generate go run ./gen ../../../docs

// Pictures are the architectures that are drawn, with the titles and file names of their pictures.
var Pictures = []struct {
	Arch        *abi.Arch
	Title, File string
}{
	{&abi.AMD64, "x86-64 (System V)", "frame-amd64.svg"},
	{&abi.ARM64, "arm64 (AAPCS64)", "frame-arm64.svg"},
}

// Measures in pixels.
const (
	width  = 824
	margin = 24
	chipW  = 61
	chipH  = 62
	pileX  = 290 // of the pile of stack words
	pileW  = 240
	word   = 26 // height of 8 bytes
	gap    = 12
)

// style has a light and a dark half; both draw their own background, so that neither depends on the page's.
const style = `<style>
text{font:13px -apple-system,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif;fill:#1f2328}
.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:12px}
.title{font-size:17px;font-weight:600}.dim{fill:#59636e}.mid{text-anchor:middle}.end{text-anchor:end}
.page{fill:#ffffff;stroke:#d0d7de}.own{fill:#f6f8fa;stroke:#afb8c1}.reg{fill:#ddf4ff;stroke:#54aeff}.mem{fill:#fff8c5;stroke:#d4a72c}
.line{stroke:#59636e;fill:none}.mark{stroke:#cf222e;stroke-width:2;fill:none}.marked{fill:#cf222e}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}.dim{fill:#9198a1}
.page{fill:#0d1117;stroke:#3d444d}.own{fill:#151b23;stroke:#656c76}.reg{fill:#12263f;stroke:#4493f8}.mem{fill:#332a10;stroke:#bb8009}
.line{stroke:#9198a1}.mark{stroke:#ff7b72}.marked{fill:#ff7b72}}
</style>
`

// drawing is an SVG that grows downwards.
type drawing struct {
	b strings.Builder
	y int
}

func (d *drawing) text(x, y int, class, format string, args ...any) {
	fmt.Fprintf(&d.b, `<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, escape.Replace(fmt.Sprintf(format, args...)))
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (d *drawing) box(x, y, w, h int, class string) {
	fmt.Fprintf(&d.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" class="%s"/>`+"\n", x, y, w, h, class)
}

func (d *drawing) path(class, format string, args ...any) {
	fmt.Fprintf(&d.b, `<path d="%s" class="%s"/>`+"\n", fmt.Sprintf(format, args...), class)
}

// Frame draws the registers and both frames of a call with twelve arguments.
func Frame(a *abi.Arch, title string) []byte {
	d := &drawing{y: margin + 14}
	d.text(margin, d.y, "title", "A call with twelve arguments: %s", title)
	d.chips(a)
	d.text(pileX-14, d.y, "dim end", "address for the caller")
	d.text(pileX+pileW+14, d.y, "dim", "address for the callee")
	d.y += gap
	d.pile(a)
	height := d.y + margin
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n%s%s%s</svg>\n",
		width, height, width, height, escape.Replace(label(a, title)), style,
		fmt.Sprintf(`<rect x="0.5" y="0.5" width="%d" height="%d" rx="6" class="page"/>`+"\n", width-1, height-1), d.b.String())
}

// label says in words what the picture shows.
func label(a *abi.Arch, title string) string {
	var at []string
	for i, l := range a.Args {
		if l.InMemory() {
			at = append(at, fmt.Sprintf("argument %d at %s+%d, for the callee at %s+%d", i+1, a.SP, l.Caller, a.FP, l.Callee))
		} else {
			at = append(at, fmt.Sprintf("argument %d in %s", i+1, l.Name))
		}
	}
	return title + ": " + strings.Join(at, "; ")
}

// chips draws a box for each argument: its number, where BPF has it and where the machine has it.
func (d *drawing) chips(a *abi.Arch) {
	d.y += 18
	for i, l := range a.Args {
		n := i + 1
		bpf := fmt.Sprintf("r%d", n)
		if n > abi.RegArgs {
			bpf = fmt.Sprintf("r11∓%d", abi.InSlot(n))
		}
		class, where := "reg", l.Name
		if l.InMemory() {
			class, where = "mem", "stack"
		}
		x := margin + i*(chipW+(width-2*margin-abi.MaxArgs*chipW)/(abi.MaxArgs-1))
		d.box(x, d.y, chipW, chipH, class)
		d.text(x+chipW/2, d.y+17, "mid", "%d", n)
		d.text(x+chipW/2, d.y+35, "code mid dim", "%s", bpf)
		d.text(x+chipW/2, d.y+53, "code mid", "%s", where)
	}
	d.y += chipH + 18
	d.text(margin, d.y, "dim", "number, place in BPF, place in the machine (r11∓8: the caller stores at r11-8, the callee loads at r11+8)")
	d.y += 34
}

// pile draws the stack, high addresses above.
func (d *drawing) pile(a *abi.Arch) {
	top := d.y
	d.words("own", 2, "the caller's own", "", "")
	for n := abi.MaxArgs; n > abi.RegArgs+a.SlotRegs; n-- {
		l := a.Args[n-1]
		d.words("mem", 1, fmt.Sprintf("argument %d", n), address(a.SP, l.Caller), address(a.FP, l.Callee))
	}
	d.mark(pileX-14, "end", fmt.Sprintf("%s at the call", a.SP), fmt.Sprintf("a multiple of %d", a.StackAlign))
	d.brace(top, d.y, "the caller's", "frame")
	d.y += 2 * gap
	top = d.y
	lowest := a.Args[abi.MaxArgs-a.MemArgs].Callee // the first argument in memory: between it and the frame pointer is the record
	for off := lowest - 8; off >= 0; off -= 8 {
		name := "return address"
		if off == 0 {
			name = "saved " + a.FP
		}
		d.words("own", 1, name, "", address(a.FP, off))
	}
	d.words("own", 3, "BPF stack, up to 512 bytes", "", address(a.FP, -8)+" and below")
	d.words("own", 1, "saved registers", "", "")
	d.words("mem", 1, "arguments of its own calls", "", address(a.SP, 0)+" and above")
	d.mark(pileX+pileW+14, "", a.SP+" of the callee", fmt.Sprintf("a multiple of %d wherever it calls", a.StackAlign))
	d.brace(top, d.y, "the callee's", "frame")
	d.y += 2 * gap
}

func address(base string, off int) string { return fmt.Sprintf("[%s%+d]", base, off) }

// words draws n words of the stack as one box, with their addresses on both sides.
func (d *drawing) words(class string, n int, name, left, right string) {
	h := n * word
	mid := d.y + h/2 + 5
	d.box(pileX, d.y, pileW, h, class)
	d.text(pileX+pileW/2, mid, "mid", "%s", name)
	if left != "" {
		d.text(pileX-14, mid, "code end", "%s", left)
	}
	if right != "" {
		d.text(pileX+pileW+14, mid, "code", "%s", right)
	}
	d.y += h
}

// mark draws a line at the lower end of what was drawn, with what it means.
func (d *drawing) mark(x int, class, what, rule string) {
	d.path("mark", "M%d %dh%d", pileX-8, d.y, pileW+16)
	d.text(x, d.y+13, "code marked "+class, "%s", what)
	d.text(x, d.y+30, "dim "+class, "%s", rule)
}

// brace says whose the words between two heights are.
func (d *drawing) brace(from, to int, lines ...string) {
	x := margin + 86
	d.path("line", "M%d %dh-6v%dh6", x, from+2, to-from-4)
	y := (from+to)/2 - 8*(len(lines)-1) + 5
	for i, l := range lines {
		d.text(x-14, y+17*i, "end dim", "%s", l)
	}
}
