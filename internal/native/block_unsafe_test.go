//go:build linux && (amd64 || arm64)

package native

import (
	"testing"
	"unsafe"

	"github.com/skep-bpf/skep/internal/abi"
)

// TestBlock holds together the three places that know the context block: abi, the Go structure, the assembly.
func TestBlock(t *testing.T) {
	var b block
	for _, o := range []struct {
		name      string
		got, want uintptr
	}{
		{"goSP", unsafe.Offsetof(b.goSP), abi.BlockGoSP}, {"goBP", unsafe.Offsetof(b.goBP), abi.BlockGoBP},
		{"sp", unsafe.Offsetof(b.sp), abi.BlockSP}, {"exit", unsafe.Offsetof(b.exit), abi.BlockExit},
		{"ret", unsafe.Offsetof(b.ret), abi.BlockRet}, {"poll", unsafe.Offsetof(b.poll), abi.BlockPoll},
		{"cpu", unsafe.Offsetof(b.cpu), abi.BlockCPU}, {"tailCnt", unsafe.Offsetof(b.tailCnt), abi.BlockTailCnt},
		{"thrown", unsafe.Offsetof(b.thrown), abi.BlockThrown},
		{"callHost", unsafe.Offsetof(b.callHost), abi.BlockCallHost}, {"callMany", unsafe.Offsetof(b.callMany), abi.BlockCallMany},
		{"yield", unsafe.Offsetof(b.yield), abi.BlockYield}, {"args", unsafe.Offsetof(b.args), abi.BlockArgs},
		{"top", unsafe.Offsetof(b.top), abi.BlockTop}, {"code", unsafe.Offsetof(b.code), abi.BlockCode},
		{"ctx", unsafe.Offsetof(b.ctx), abi.BlockCtx}, {"faultPC", unsafe.Offsetof(b.faultPC), abi.BlockFaultPC},
		{"faultAddr", unsafe.Offsetof(b.faultAddr), abi.BlockFaultAdr}, {"faultSP", unsafe.Offsetof(b.faultSP), abi.BlockFaultSP},
		{"id", unsafe.Offsetof(b.id), abi.BlockID},
		{"exit codes", abi.ExitReturn, 0}, {"yield code", abi.ExitYield, 1}, {"fault code", abi.ExitFault, 2}, {"running code", abi.ExitRunning, 3},
		// The numbers in tramp_ARCH.s and signal_linux_ARCH.s.
		{"GOSP", abi.BlockGoSP, 0}, {"GOBP", abi.BlockGoBP, 8}, {"NATSP", abi.BlockSP, 16}, {"EXIT", abi.BlockExit, 24},
		{"RESULT", abi.BlockRet, 32}, {"poll in onPreempt", abi.BlockPoll, 40}, {"args in ARGS6", abi.BlockArgs, 80},
		{"TOP", abi.BlockTop, 176}, {"CODE", abi.BlockCode, 184}, {"CTX", abi.BlockCtx, 192}, {"BACK", abi.BlockBack, 232}, {"back", unsafe.Offsetof(b.back), abi.BlockBack},
		{"faultLR", unsafe.Offsetof(b.faultLR), abi.BlockFaultLR}, {"goG", unsafe.Offsetof(b.goG), abi.BlockGoG}, {"held", unsafe.Offsetof(b.held), abi.BlockHeld},
		{"pc in onFault", abi.BlockFaultPC, 200}, {"addr in onFault", abi.BlockFaultAdr, 208}, {"sp in onFault", abi.BlockFaultSP, 216}, {"lr in onFault", abi.BlockFaultLR, 240}, {"GOG", abi.BlockGoG, 248},
		{"SLOT_MASK", slotSize, 524288}, {"SLOT_BLOCK", slotSize - blockArea, 458752},
		{"held list", unsafe.Sizeof(b.held), abi.HeldSize},
		{"size", max(unsafe.Sizeof(b), abi.BlockSize), abi.BlockSize},
	} {
		if o.got != o.want {
			t.Errorf("%s at %d, want %d", o.name, o.got, o.want)
		}
	}
}
