//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"time"
)

// Run runs the program by BPF_PROG_TEST_RUN. The kernel refuses packets shorter than an Ethernet header for packet
// program types, and program types that have no test run.
func (k *Prog) Run(in RunInput) (RunOutput, error) { return RunFD(k.fd, in) }

// RunFD is Prog.Run of a program that somebody else loaded, by its file descriptor.
func RunFD(fd int, in RunInput) (RunOutput, error) {
	dataOut, ctxOut := in.DataOut, in.CtxOut
	if dataOut == 0 && len(in.Data) > 0 {
		dataOut = len(in.Data) + 256
	}
	if ctxOut == 0 {
		ctxOut = len(in.Ctx)
	}
	data, ctx := make([]byte, dataOut), make([]byte, max(ctxOut, 0))
	a, e := testRun(fd, &in, data, ctx)
	if e != 0 {
		return RunOutput{}, fmt.Errorf("test run: %w", e)
	}
	return RunOutput{
		Ret: a.ret, Data: data[:min(int(a.sizeOut), len(data))], Ctx: ctx[:min(int(a.ctxSizeOut), len(ctx))],
		Duration: time.Duration(a.duration),
	}, nil
}
