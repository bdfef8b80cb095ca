package arm64

import (
	"encoding/binary"
	"errors"
)

// Branches are appended in their short form, one instruction. When all code is there, those that do not reach their target
// become longer, which takes others away from theirs: rounds go on until all reach. Hardly any program is that large.

// fix is an instruction that holds a distance.
type fix struct {
	off    int32 // of the instruction
	target int32 // >= 0: label; < 0: ^index of an IR instruction
	kind   uint8
	long   bool
}

// Kinds of fix.
const (
	fix26  = iota // b, bl
	fix19         // b.cond, cbz, cbnz
	fix14         // tbz, tbnz
	fixADR        // adr
)

// reach says how far a kind goes, in bytes either way.
var reach = [...]int64{fix26: 1 << 27, fix19: 1 << 20, fix14: 1 << 15, fixADR: 1 << 20}

// extra is how many bytes the long form takes more: a branch over a branch; adr of itself and an addition.
var extra = [...]int32{fix19: 4, fix14: 4, fixADR: 12}

var errTooLarge = errors.New("the code is too large to branch across it")

// insnTarget names an IR instruction as the target of a branch.
func insnTarget(i int32) int32 { return ^i }

// label makes a label that bind puts at the end of the code.
func (c *compiler) label() int32 {
	c.labels = append(c.labels, -1)
	return int32(len(c.labels) - 1)
}

func (c *compiler) bind(l int32) { c.labels[l] = int32(len(c.buf)) }

// jump appends the branch ins to a label or instruction.
func (c *compiler) jump(ins uint32, target int32) {
	kind := uint8(fix26)
	switch ins >> 24 &^ 0x80 { // without the bit that tells 64 bits
	case opBCC >> 24, opCBZ >> 24, opCBNZ >> 24:
		kind = fix19
	case opTBZ >> 24, opTBNZ >> 24:
		kind = fix14
	case opADR >> 24:
		kind = fixADR
	}
	c.fixes = append(c.fixes, fix{off: int32(len(c.buf)), target: target, kind: kind})
	c.word(ins)
}

// branch appends a branch that is always taken, branchIf one on flags.
func (c *compiler) branch(target int32) { c.jump(opB, target) }

func (c *compiler) branchIf(cc uint32, target int32) { c.jump(opBCC|cc, target) }

// cbz and cbnz append a branch on whether the lower w bytes of r are zero.
func (c *compiler) cbz(w uint8, r reg, target int32) { c.jump(opCBZ|sf(w)|rd(r), target) }

func (c *compiler) cbnz(w uint8, r reg, target int32) { c.jump(opCBNZ|sf(w)|rd(r), target) }

// testBit appends a branch on a bit of r: op is opTBZ or opTBNZ.
func (c *compiler) testBit(op uint32, r reg, bit uint8, target int32) {
	c.jump(op|uint32(bit>>5)<<31|uint32(bit&31)<<19|rd(r), target)
}

// callFunc appends a call of function f, adrFunc a load of its address. Targets are function numbers until resolve: labels are
// made as functions are compiled, with others between.
func (c *compiler) callFunc(f int32) { c.funcFix(opBL, f) }

func (c *compiler) adrFunc(d reg, f int32) { c.funcFix(opADR|rd(d), f) }

func (c *compiler) funcFix(ins uint32, f int32) {
	c.jump(ins, 0)
	c.calls = append(c.calls, call{int32(len(c.fixes) - 1), f})
}

// call says that a fix leads to a function.
type call struct{ fix, fn int32 }

// resolve fills in distances. starts are the functions' labels. Labels and places are moved where code grows.
func (c *compiler) resolve(starts []int32) error {
	for _, k := range c.calls {
		c.fixes[k.fix].target = starts[k.fn]
	}
	var grown []int32 // grown[i]: bytes that the fixes before i have grown by
	for c.lengthen(grown) {
		if grown == nil {
			grown = make([]int32, len(c.fixes)+1)
		}
		for i := range c.fixes {
			f := &c.fixes[i]
			grown[i+1] = grown[i]
			if f.long {
				grown[i+1] += extra[f.kind]
			}
		}
	}
	if grown != nil {
		c.spread(grown)
	}
	for i := range c.fixes {
		if err := c.patch(&c.fixes[i]); err != nil {
			return err
		}
	}
	return nil
}

// dest returns the offset a fix leads to, before the code grows.
func (c *compiler) dest(f *fix) int32 {
	if f.target < 0 {
		return c.at[^f.target]
	}
	return c.labels[f.target]
}

// moved returns where the code at off lies when it has grown.
func (c *compiler) moved(off int32, grown []int32) int32 {
	if grown == nil {
		return off
	}
	lo, hi := 0, len(c.fixes) // the fixes before off
	for lo < hi {
		if m := (lo + hi) / 2; c.fixes[m].off < off {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return off + grown[lo]
}

// lengthen makes fixes long that do not reach, and reports whether there were any.
func (c *compiler) lengthen(grown []int32) (changed bool) {
	if grown == nil && int64(len(c.buf)) < reach[fix14] {
		return false
	}
	for i := range c.fixes {
		f := &c.fixes[i]
		if f.long || f.kind == fix26 {
			continue
		}
		d := int64(c.moved(c.dest(f), grown)) - int64(c.moved(f.off, grown))
		if d < -reach[f.kind] || d >= reach[f.kind] {
			f.long, changed = true, true
		}
	}
	return changed
}

// spread moves the code apart where fixes have become long; offsets of fixes, labels, instructions and places go with it.
func (c *compiler) spread(grown []int32) {
	old := c.buf
	c.buf = make([]byte, 0, len(old)+int(grown[len(c.fixes)]))
	from := int32(0)
	for i := range c.fixes {
		f := &c.fixes[i]
		if f.long {
			c.buf = append(c.buf, old[from:f.off+4]...)
			c.buf = append(c.buf, make([]byte, extra[f.kind])...)
			from = f.off + 4
		}
	}
	c.buf = append(c.buf, old[from:]...)
	for i, l := range c.labels {
		if l >= 0 {
			c.labels[i] = c.moved(l, grown)
		}
	}
	for i := range c.at {
		c.at[i] = c.moved(c.at[i], grown)
	}
	for i := range c.places {
		c.places[i].Off = c.moved(c.places[i].Off, grown)
	}
	for i := range c.fixes {
		c.fixes[i].off += grown[i]
	}
}

// patch fills in one fix.
func (c *compiler) patch(f *fix) error {
	ins := binary.LittleEndian.Uint32(c.buf[f.off:])
	d := c.dest(f) - f.off
	if f.long && f.kind == fixADR {
		c.patchFarADR(f, ins, d)
		return nil
	}
	if f.long { // turned round, over a branch
		turn := uint32(1) << 24
		if ins>>24 == opBCC>>24 {
			turn = 1
		}
		c.put(f.off, ins^turn|distance(f.kind, 8))
		f.off, ins, d, f.kind = f.off+4, opB, d-4, fix26
	}
	if int64(d) < -reach[f.kind] || int64(d) >= reach[f.kind] {
		return errTooLarge
	}
	c.put(f.off, ins|distance(f.kind, d))
	return nil
}

// patchFarADR writes: adr d, itself; movz/movk x17, distance; add d, d, x17 sign-extended.
func (c *compiler) patchFarADR(f *fix, adr uint32, d int32) {
	r := reg(adr & 31)
	a := asm{buf: make([]byte, 0, 16)}
	a.word(adr)
	a.movWide(opMOVZ, 4, x17, uint16(d), 0)
	a.movWide(opMOVK, 4, x17, uint16(uint32(d)>>16), 1)
	a.word(0x8b20c000 | rm(x17) | rn(r) | rd(r)) // add r, r, w17, sxtw
	copy(c.buf[f.off:], a.buf)
}

func (c *compiler) put(off int32, ins uint32) { binary.LittleEndian.PutUint32(c.buf[off:], ins) }

// distance returns the bits that say d in an instruction.
func distance(kind uint8, d int32) uint32 {
	switch kind {
	case fix26:
		return uint32(d>>2) & (1<<26 - 1)
	case fix19:
		return uint32(d>>2) & (1<<19 - 1) << 5
	case fix14:
		return uint32(d>>2) & (1<<14 - 1) << 5
	}
	return uint32(d)&3<<29 | uint32(d>>2)&(1<<19-1)<<5
}
