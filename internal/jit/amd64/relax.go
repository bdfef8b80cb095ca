package amd64

import "encoding/binary"

// Jumps are appended in their long form. When all code is there, those that reach their target with one byte are
// shortened, which brings others nearer: rounds go on until none is left or the round limit is reached. Lengths only
// shrink, so the state after any round is right. Then the code moves together once.

// fix is a place in the code that holds a distance.
type fix struct {
	off    int32 // of the instruction
	target int32 // >= 0: label; < 0: ^index of an IR instruction
	before int32 // fixes that stand before the target
	kind   uint8 // condition code, ccJ, or below
	short  uint8 // 0: long; 1: one byte; 2: left out, because it goes to the next instruction
	pad    uint8 // of fixPad: bytes that stay
}

// Kinds of fix beside condition codes: they stay as they are.
const (
	fixCall = 32 + iota // e8 rel32
	fixLea              // rel32 in the last four bytes of 7
	fixPad              // room in front of a loop; its target is the jump back
)

// Loops that fit into a line of the processor's cache are put into one: a jump back that lies across two lines costs half
// as much again as a small loop itself (measured with array lookups). Larger ones begin at a multiple of loopAlign.
const (
	cacheLine  = 64
	maxPad     = cacheLine - 1
	loopAlign  = 16
	backBytes  = 9   // a comparison and a short jump back take no more; the size of a loop is taken with that much
	largeLoops = 256 // from here on it does not show
)

const relaxRounds = 6

// insnTarget names an IR instruction as the target of a jump.
func insnTarget(i int32) int32 { return ^i }

// label makes a label that bind puts at the end of the code.
func (c *compiler) label() int32 {
	c.labels = append(c.labels, -1)
	return int32(len(c.labels) - 1)
}

func (c *compiler) bind(l int32) { c.labels[l] = int32(len(c.buf)) }

// jump appends a jump to a label or instruction.
func (c *compiler) jump(cc uint8, target int32) {
	c.fixes = append(c.fixes, fix{off: int32(len(c.buf)), target: target, kind: cc})
	if cc == ccJ {
		c.b(0xe9, 0, 0, 0, 0)
	} else {
		c.b(0x0f, 0x80|cc, 0, 0, 0, 0)
	}
}

// callFunc appends a call of function f, leaFunc a load of its address. Labels 0.. are made in the order in which
// functions are compiled, with others between, so targets are function numbers until relax.
func (c *compiler) callFunc(f int32) {
	c.fixes = append(c.fixes, fix{off: int32(len(c.buf)), target: f, kind: fixCall})
	c.b(0xe8, 0, 0, 0, 0)
}

func (c *compiler) leaFunc(dst uint8, f int32) {
	c.fixes = append(c.fixes, fix{off: int32(len(c.buf)), target: f, kind: fixLea})
	c.lea(8, dst, mem{base: rbp, index: noIndex}) // made rip-relative below
	n := len(c.buf)
	c.buf = append(c.buf[:n-1], 0, 0, 0, 0)
	c.buf[n-2] = dst&7<<3 | 5
}

func (f *fix) long() int32 {
	switch {
	case f.kind < ccJ:
		return 6
	case f.kind == fixLea:
		return 7
	case f.kind == fixPad:
		return maxPad
	}
	return 5
}

// shrink returns how many bytes a fix has lost.
func (f *fix) shrink() int32 {
	if f.kind == fixPad {
		return maxPad - int32(f.pad)
	}
	switch f.short {
	case 1:
		return f.long() - 2
	case 2:
		return f.long()
	}
	return 0
}

// dest returns the unrelaxed offset a fix leads to.
func (c *compiler) dest(f *fix) int32 {
	if f.target < 0 {
		return c.at[^f.target]
	}
	return c.labels[f.target]
}

// relax shortens jumps, moves the code together and fills in distances. starts are the functions' labels. Labels and
// places are moved along.
func (c *compiler) relax(starts []int32) []byte {
	for i := range c.fixes {
		f := &c.fixes[i]
		if f.kind == fixCall || f.kind == fixLea {
			f.target = starts[f.target]
		}
		f.before = int32(c.fixesBefore(c.dest(f)))
	}
	lost := make([]int32, len(c.fixes)+1) // lost[i]: bytes lost by the fixes before i
	for range relaxRounds {
		if !c.shorten(lost) {
			break
		}
		for i := range c.fixes {
			lost[i+1] = lost[i] + c.fixes[i].shrink()
		}
	}
	c.align(lost)
	return c.compact(lost)
}

// padLoop leaves room in front of the loop that begins at the running instruction and whose last jump back is instruction
// back.
func (c *compiler) padLoop(back int32) {
	c.fixes = append(c.fixes, fix{off: int32(len(c.buf)), target: insnTarget(back), kind: fixPad, pad: maxPad})
	c.buf = append(c.buf, make([]byte, maxPad)...)
}

// align decides how much of the room in front of loops stays. Jumps were shortened as if all did: less is always right.
func (c *compiler) align(lost []int32) {
	now := int32(0)
	for i := range c.fixes {
		f := &c.fixes[i]
		if f.kind == fixPad {
			head := f.off - now
			size := c.dest(f) - lost[f.before] - (f.off + maxPad - lost[i]) + backBytes
			f.pad = 0
			switch in := head % cacheLine; {
			case size <= cacheLine && in+size > cacheLine:
				f.pad = uint8(cacheLine - in)
			case size > cacheLine && size <= largeLoops && head%loopAlign != 0:
				f.pad = uint8(loopAlign - head%loopAlign)
			}
		}
		now += f.shrink()
		lost[i] = now // the old value is needed no more
	}
	copy(lost[1:], lost)
	lost[0] = 0
}

// fixesBefore returns the number of fixes that stand before offset off.
func (c *compiler) fixesBefore(off int32) int {
	lo, hi := 0, len(c.fixes)
	for lo < hi {
		if m := (lo + hi) / 2; c.fixes[m].off < off {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// shorten makes one round and reports whether it changed anything.
func (c *compiler) shorten(lost []int32) (changed bool) {
	for i := range c.fixes {
		f := &c.fixes[i]
		if f.kind > ccJ || f.short != 0 {
			continue
		}
		end := f.off + f.long() - lost[i]
		d := c.dest(f) - lost[f.before] - end
		if d < 0 {
			d += f.long() - 2
		}
		if d == 0 && f.kind == ccJ {
			f.short, changed = 2, true
		} else if fits8(int64(d)) {
			f.short, changed = 1, true
		}
	}
	return changed
}

// compact moves the code together in place.
func (c *compiler) compact(lost []int32) []byte {
	text := c.buf
	w, r := int32(0), int32(0)
	for i := range c.fixes {
		f := &c.fixes[i]
		w += int32(copy(text[w:], text[r:f.off]))
		r = f.off + f.long()
		end := r - lost[i+1]
		d := c.dest(f) - lost[f.before] - end
		switch {
		case f.kind == fixPad:
			nops(text[w : w+int32(f.pad)])
			w += int32(f.pad)
		case f.short == 2:
		case f.short == 1 && f.kind == ccJ:
			text[w], text[w+1] = 0xeb, byte(d)
			w += 2
		case f.short == 1:
			text[w], text[w+1] = 0x70|f.kind, byte(d)
			w += 2
		default:
			copy(text[w:], text[f.off:r])
			w += f.long()
			binary.LittleEndian.PutUint32(text[w-4:], uint32(d))
		}
	}
	w += int32(copy(text[w:], text[r:]))
	c.moved(lost)
	return text[:w]
}

// moved corrects the labels and places for the bytes lost before them.
func (c *compiler) moved(lost []int32) {
	for i, l := range c.labels {
		if l >= 0 {
			c.labels[i] = l - lost[c.fixesBefore(l)]
		}
	}
	k := 0
	for i := range c.places {
		p := &c.places[i]
		for k < len(c.fixes) && c.fixes[k].off < p.Off {
			k++
		}
		p.Off -= lost[k]
	}
}

// nops fills b with instructions that do nothing, as few as it takes (the processor manuals' forms of up to nine bytes).
func nops(b []byte) {
	for len(b) > 0 {
		n := min(len(b), len(nopForms))
		copy(b, nopForms[n-1])
		b = b[n:]
	}
}

var nopForms = [...][]byte{
	{0x90},
	{0x66, 0x90},
	{0x0f, 0x1f, 0x00},
	{0x0f, 0x1f, 0x40, 0},
	{0x0f, 0x1f, 0x44, 0, 0},
	{0x66, 0x0f, 0x1f, 0x44, 0, 0},
	{0x0f, 0x1f, 0x80, 0, 0, 0, 0},
	{0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
	{0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
}
