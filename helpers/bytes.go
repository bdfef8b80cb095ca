package helpers

import (
	"encoding/binary"

	"github.com/skep-bpf/skep/internal/rt"
)

// Program memory as numbers, in the host's byte order. The verifier has proven the addresses.

func load64(addr uint64) uint64     { return binary.NativeEndian.Uint64(rt.Mem(addr, 8)) }
func store64(addr, v uint64)        { binary.NativeEndian.PutUint64(rt.Mem(addr, 8), v) }
func load32(addr uint64) uint32     { return binary.NativeEndian.Uint32(rt.Mem(addr, 4)) }
func store32(addr uint64, v uint32) { binary.NativeEndian.PutUint32(rt.Mem(addr, 4), v) }
func load16(addr uint64) uint16     { return binary.NativeEndian.Uint16(rt.Mem(addr, 2)) }
func store16(addr uint64, v uint16) { binary.NativeEndian.PutUint16(rt.Mem(addr, 2), v) }
