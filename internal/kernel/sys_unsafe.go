//go:build linux && (amd64 || arm64)

//lint:file-ignore U1000 the structures mirror union bpf_attr, used fields or not

package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of bpf(2) (enum bpf_cmd).
const (
	cmdMapCreate   = 0
	cmdMapLookup   = 1
	cmdMapUpdate   = 2
	cmdMapDelete   = 3
	cmdMapNextKey  = 4
	cmdProgLoad    = 5
	cmdProgTestRun = 10
	cmdObjInfo     = 15
	cmdBTFLoad     = 18
	cmdMapFreeze   = 22
)

// The attribute blocks of bpf(2), in the layout of union bpf_attr on 64-bit machines. Pointers to Go memory are typed
// as such: the collector sees them for as long as the block lives, which is until the call returned.

type attrMapCreate struct {
	mapType, keySize, valueSize, maxEntries, flags, innerFD, numaNode uint32
	name                                                              [16]byte
	ifindex, btfFD, btfKey, btfValue, btfVmlinuxValue                 uint32
	extra                                                             uint64
	valueBTFObjFD, tokenFD                                            uint32
}

type attrMapElem struct {
	fd, _      uint32
	key, value unsafe.Pointer
	flags      uint64
}

type attrProgLoad struct {
	progType, insnCount                        uint32
	insns, license                             unsafe.Pointer
	logLevel, logSize                          uint32
	logBuf                                     unsafe.Pointer
	kernVersion, flags                         uint32
	name                                       [16]byte
	ifindex, attachType, btfFD, funcInfoSize   uint32
	funcInfo                                   unsafe.Pointer
	funcInfoCount, lineInfoSize                uint32
	lineInfo                                   unsafe.Pointer
	lineInfoCount, attachBTFID, attachFD, core uint32
	fdArray, coreRelos                         unsafe.Pointer
	coreReloSize, logTrueSize                  uint32
	tokenFD, fdArrayCount                      uint32
}

type attrBTFLoad struct {
	btf, logBuf                          unsafe.Pointer
	size, logSize, logLevel, logTrueSize uint32
}

type attrTestRun struct {
	fd, ret, sizeIn, sizeOut                uint32
	dataIn, dataOut                         unsafe.Pointer
	repeat, duration, ctxSizeIn, ctxSizeOut uint32
	ctxIn, ctxOut                           unsafe.Pointer
	flags, cpu, batchSize, _                uint32
}

type attrInfo struct {
	fd, size uint32
	info     unsafe.Pointer
}

// progInfo is the head of struct bpf_prog_info.
type progInfo struct {
	typ, id             uint32
	tag                 [8]byte
	jitedLen, xlatedLen uint32
}

// call is bpf(2) with one of the attribute blocks above.
func call[A any](cmd uintptr, attr *A) (int, unix.Errno) {
	for {
		r, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		runtime.KeepAlive(attr)
		// The kernel gives up a verification or a run that a signal interrupted; Go's scheduler sends signals.
		if e == unix.EAGAIN && cmd == cmdProgLoad || e == unix.EINTR {
			continue
		}
		return int(r), e
	}
}

// ptr returns where the bytes of b start, nil if there are none.
func ptr[T any](b []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func testRun(fd int, in *RunInput, dataOut, ctxOut []byte) (attrTestRun, unix.Errno) {
	a := attrTestRun{
		fd: uint32(fd), dataIn: ptr(in.Data), sizeIn: uint32(len(in.Data)), dataOut: ptr(dataOut), sizeOut: uint32(len(dataOut)),
		ctxIn: ptr(in.Ctx), ctxSizeIn: uint32(len(in.Ctx)), ctxOut: ptr(ctxOut), ctxSizeOut: uint32(len(ctxOut)),
		repeat: uint32(in.Repeat),
	}
	if len(in.Data) == 0 {
		a.dataIn = nil
	}
	if len(in.Ctx) == 0 {
		a.ctxIn = nil
	}
	if len(dataOut) == 0 {
		a.dataOut = nil
	}
	if len(ctxOut) == 0 {
		a.ctxOut = nil
	}
	_, e := call(cmdProgTestRun, &a)
	return a, e
}

func infoOf(fd int) (progInfo, unix.Errno) {
	var pi progInfo
	a := attrInfo{fd: uint32(fd), size: uint32(unsafe.Sizeof(pi)), info: unsafe.Pointer(&pi)}
	_, e := call(cmdObjInfo, &a)
	return pi, e
}

func mapElem(cmd uintptr, fd int, key, value []byte, flags uint64) unix.Errno {
	a := attrMapElem{fd: uint32(fd), key: ptr(key), value: ptr(value), flags: flags}
	if key == nil {
		a.key = nil
	}
	_, e := call(cmd, &a)
	return e
}

// objName makes a name the kernel takes: at most 15 of [A-Za-z0-9_.].
func objName(s string) (n [16]byte) {
	for i := 0; i < len(s) && i < len(n)-1; i++ {
		c := s[i]
		if c|0x20 < 'a' && (c < '0' || c > '9') && c != '.' || c|0x20 > 'z' {
			c = '_'
		}
		n[i] = c
	}
	return n
}
