package maps

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
)

// bloom is a Bloom filter (kernel/bpf/bloom_filter.c): pushing a value sets some bits, peeking finds whether all are set. Sizes and
// hashes are the kernel's, so that filters with the same seed (BPF_F_ZERO_SEED) have the same false positives.
type bloom struct {
	keyless
	region *offheap.Region
	m      mem
	mask   uint32 // number of bits - 1
	seed   uint32
	hashes uint32
}

const (
	bloomHashesMask    = 0xf // of map_extra
	bloomDefaultHashes = 5
)

// checkBloom applies the rules of bloom_map_alloc_check and bloom_map_alloc.
func checkBloom(s *ebpf.MapSpec) error {
	if s.ValueSize > maxKmalloc {
		return refuse(errno.E2BIG, "ValueSize %d is above %d", s.ValueSize, maxKmalloc)
	}
	if err := checkKeyless(s); err != nil {
		return err
	}
	if s.MapExtra&^bloomHashesMask != 0 {
		return refuse(errno.EINVAL, "map_extra %#x: a Bloom filter has at most %d hashes", s.MapExtra, bloomHashesMask)
	}
	return checkFlags(s, FlagNUMANode|FlagZeroSeed|accessFlags)
}

func newBloom(s *ebpf.MapSpec, limit uint64, seed func() uint64) (*bloom, error) {
	b := &bloom{keyless: keyless{errno.EOPNOTSUPP}, hashes: uint32(s.MapExtra)}
	if b.hashes == 0 {
		b.hashes = bloomDefaultHashes
	}
	if s.Flags&FlagZeroSeed == 0 {
		b.seed = uint32(seed())
	}
	b.mask = bloomMask(s.MaxEntries, b.hashes)
	size, err := mulSize(limit, 8, (uint64(b.mask)+1)/64)
	if err != nil {
		return nil, err
	}
	if b.region, err = offheap.Alloc(int(size)); err != nil {
		return nil, err
	}
	b.m = memOf(b.region)
	return b, nil
}

// bloomMask is the number of bits less one: entries times hashes times 7/5, which is nearly 1/ln 2, rounded up to a power of two.
func bloomMask(entries, hashes uint32) uint32 {
	n := uint64(entries) * uint64(hashes)
	if n > math.MaxUint32 || n/5*7 > 1<<31 {
		return math.MaxUint32
	}
	if n = n / 5 * 7; n <= 64 {
		return 63
	}
	return 1<<bits.Len64(n-1) - 1
}

// bit returns the bit that hash i of a value names.
func (b *bloom) bit(value []byte, i uint32) uint32 { return jhash(value, b.seed+i) & b.mask }

func (b *bloom) push(value []byte, flags uint64) errno.Errno {
	if flags != 0 {
		return errno.EINVAL
	}
	for i := range b.hashes {
		n := b.bit(value, i)
		b.m.u64(int(n/64) * 8).Or(1 << (n % 64))
	}
	return 0
}

func (b *bloom) peek(value []byte) errno.Errno {
	for i := range b.hashes {
		n := b.bit(value, i)
		if b.m.u64(int(n/64)*8).Load()>>(n%64)&1 == 0 {
			return errno.ENOENT
		}
	}
	return 0
}

func (b *bloom) pop([]byte) errno.Errno                          { return errno.EOPNOTSUPP }
func (b *bloom) read(_, value []byte) errno.Errno                { return b.peek(value) }
func (b *bloom) take([]byte, []byte) errno.Errno                 { return errno.ENOTSUPP }
func (b *bloom) write(_, value []byte, flags uint64) errno.Errno { return b.push(value, flags) }
func (b *bloom) free() error                                     { return b.region.Free() }

// jhash is Bob Jenkins' hash of 2006 (lookup3), as the kernel has it: words in the machine's order, what is left over byte by byte.
func jhash(key []byte, seed uint32) uint32 {
	a := 0xdeadbeef + uint32(len(key)) + seed
	b, c := a, a
	for ; len(key) > 12; key = key[12:] {
		a += binary.NativeEndian.Uint32(key)
		b += binary.NativeEndian.Uint32(key[4:])
		c += binary.NativeEndian.Uint32(key[8:])
		a, b, c = jhashMix(a, b, c)
	}
	if len(key) == 0 {
		return c
	}
	var last [12]byte
	copy(last[:], key)
	order := binary.ByteOrder(binary.LittleEndian)
	if len(key)%4 == 0 {
		order = binary.NativeEndian // keys of whole words are read as words to the end (jhash2)
	}
	return jhashFinal(a+order.Uint32(last[:]), b+order.Uint32(last[4:]), c+order.Uint32(last[8:]))
}

func jhashMix(a, b, c uint32) (uint32, uint32, uint32) {
	a = a - c ^ bits.RotateLeft32(c, 4)
	c += b
	b = b - a ^ bits.RotateLeft32(a, 6)
	a += c
	c = c - b ^ bits.RotateLeft32(b, 8)
	b += a
	a = a - c ^ bits.RotateLeft32(c, 16)
	c += b
	b = b - a ^ bits.RotateLeft32(a, 19)
	a += c
	c = c - b ^ bits.RotateLeft32(b, 4)
	b += a
	return a, b, c
}

func jhashFinal(a, b, c uint32) uint32 {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}
