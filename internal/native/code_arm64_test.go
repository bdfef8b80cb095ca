//go:build linux

package native

import (
	"encoding/binary"
)

// Machine code of the tests' own.

func words32(ws ...uint32) (b []byte) {
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// sumAligned is a C function of twelve integers that returns their sum; a stack pointer that is no multiple of 16 makes
// it another.
var sumAligned = words32(
	0x910003e9, // mov x9, sp
	0x92400d29, // and x9, x9, #15
	0x8b090000, // add x0, x0, x9
	0x8b010000, // add x0, x0, x1
	0x8b020000, // add x0, x0, x2
	0x8b030000, // add x0, x0, x3
	0x8b040000, // add x0, x0, x4
	0x8b050000, // add x0, x0, x5
	0x8b060000, // add x0, x0, x6
	0x8b070000, // add x0, x0, x7
	0xa9400be1, // ldp x1, x2, [sp]
	0xa94113e3, // ldp x3, x4, [sp, #16]
	0x8b010000, // add x0, x0, x1
	0x8b020000, // add x0, x0, x2
	0x8b030000, // add x0, x0, x3
	0x8b040000, // add x0, x0, x4
	0xaa1f03e5, // mov x5, xzr, and so on: what is the callee's is gone
	0xaa1f03e6, 0xaa1f03e7, 0xaa1f03e8,
	0x10000009, 0x1000000a, 0x1000000b, 0x1000000c, 0x1000000d, 0x1000000e, 0x1000000f, 0x10000010, 0x10000011, // adr x9..x17, .
	0x10000012, // adr x18, .: Linux leaves it to C as a temporary
	0xd65f03c0, // ret
)

// C functions that load from address 0x10, at once and with a frame of their own, after a call; that call themselves for ever;
// that write below the machine stack, after a call.
var (
	loadFrom16 = words32(0xd2800200, 0xf9400000)                         // mov x0, #16; ldr x0, [x0]
	frameFirst = words32(0xa9bf7bfd, 0x94000001, 0xd2800200, 0xf9400000) // stp x29, x30, [sp, #-16]!; bl .+4; and as above
	recurse    = words32(0xa9bf7bfd, 0x97ffffff)                         // stp x29, x30, [sp, #-16]!; bl .-4
	bigFrame   = words32(0xa9bf7bfd, 0x94000001, 0xd14143ff, 0xf90003ff) // stp, bl .+4; sub sp, sp, #0x50000; str xzr, [sp]
)
