// Package kernel loads and runs a program.Program through the running Linux kernel's bpf(2): the kernel is the oracle
// that skep's verifier and engines are compared with. Nothing of skep's own work depends on it; where bpf(2) is not
// there or not permitted, Available says why.
//
// It knows no machine code and no verification of our own.
package kernel

import (
	"errors"
	"time"
)

// ErrNoVerdict is wrapped by errors that say nothing about the program itself: a missing permission (this includes
// attach types that the host's policy refuses), BTF or a map that the kernel does not take, a kfunc it does not have.
var ErrNoVerdict = errors.New("no verdict")

// RunInput is the input of a test run (BPF_PROG_TEST_RUN).
type RunInput struct {
	Data   []byte // packet
	Ctx    []byte // context structure of the program type
	Repeat int    // runs to time; 0 means 1
	// DataOut is the room for the packet afterwards in bytes; 0 means as long as Data plus 256.
	DataOut int
	// CtxOut is the room for the context afterwards in bytes; 0 means as long as Ctx, and less than 0 none.
	CtxOut int
}

// RunOutput is the result of a test run.
type RunOutput struct {
	Ret      uint32
	Data     []byte
	Ctx      []byte
	Duration time.Duration // of one run, averaged by the kernel
}

// logStart is the first size tried for a log; the kernel says how much it wants if that is too small.
const (
	logStart = 64 << 10
	logMax   = 256 << 20
)
