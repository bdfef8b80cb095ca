package helpers

import (
	"time"

	"github.com/skep-bpf/skep/internal/async"
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Timers and work queues in values of maps. The verifier proves their addresses; what a set callback is called by is up to lowering,
// which knows the functions: see SetCallback. Their callbacks run on goroutines of their own, by the clock of the run's Env.

var aTimer = arg(verifier.ArgTimer)

func later(p proto) proto { p.Callback = verifier.CallbackAsync; return p }

var _ = define(
	Helper{Proto: gpl(sig(169, "timer_init", nil, aTimer, aMap, aAny)), Fn: timerInit},
	Helper{Proto: gpl(later(sig(170, "timer_set_callback", nil, aTimer, arg(verifier.ArgFunc))))},
	Helper{Proto: gpl(sig(171, "timer_start", nil, aTimer, aAny, aAny)), Fn: timerStart},
	Helper{Proto: gpl(sig(172, "timer_cancel", nil, aTimer)), Fn: timerCancel},
)

// Flags of timers: the clock of timer_init, and those of timer_start (linux/bpf.h, linux/time.h).
const (
	linuxRealtime  = 0
	linuxMonotonic = 1
	linuxBoottime  = 7

	timerAbs    = 1
	timerCPUPin = 2
)

func timerInit(r *rt.Run, a *[12]uint64) uint64 {
	var c clockID
	switch a[2] {
	case linuxMonotonic:
		c = clockMonotonic
	case linuxBoottime:
		c = clockBoot
	case linuxRealtime:
		c = clockReal
	default:
		return errno.EINVAL.R0()
	}
	return asyncInit(r, a, c)
}

// asyncInit initialises the field a[0] of a value of the map a[1].
func asyncInit(r *rt.Run, a *[12]uint64, c clockID) uint64 {
	return maps.SideOf(maps.FromHandle(a[1])).TimerInit(a[0], timeOf(r, c)).R0()
}

// timeOf is the clock of a run.
func timeOf(r *rt.Run, c clockID) rt.Clock {
	if r.Env != nil && r.Env.Clock != nil {
		return r.Env.Clock
	}
	return hostTime(c)
}

// hostTime is a clock of the host.
type hostTime clockID

func (c hostTime) Now() uint64 { return hostClock(clockID(c)) }

func (c hostTime) At(at uint64, f func()) func() bool {
	delay := time.Duration(0)
	if now := c.Now(); at > now {
		delay = time.Duration(min(at-now, 1<<62))
	}
	return time.AfterFunc(delay, f).Stop
}

// timerStart is bpf_timer_start. The slot that runs the callback is any free one, whatever BPF_F_TIMER_CPU_PIN says.
func timerStart(_ *rt.Run, a *[12]uint64) uint64 {
	f := async.At(uintptr(a[0]))
	if a[2]&^(timerAbs|timerCPUPin) != 0 || f == nil {
		return errno.EINVAL.R0()
	}
	at := a[1]
	if a[2]&timerAbs == 0 {
		now := f.Clock().Now()
		if at += now; at < now {
			at = ^uint64(0)
		}
	}
	return f.Start(at, true).R0()
}

func timerCancel(r *rt.Run, a *[12]uint64) uint64 {
	f := async.At(uintptr(a[0]))
	if f == nil {
		return errno.EINVAL.R0()
	}
	self, _ := r.Async.(*async.Field)
	was, e := f.Cancel(self)
	if e != 0 {
		return e.R0()
	}
	return uint64(was)
}

// SetCallback is bpf_timer_set_callback, and what bpf_wq_set_callback does: field is the address of the timer or work queue.
func SetCallback(field uint64, cb async.Callback) uint64 {
	f := async.At(uintptr(field))
	if f == nil {
		return errno.EINVAL.R0()
	}
	return f.SetCallback(cb).R0()
}

func wqInit(r *rt.Run, a *[12]uint64) uint64 {
	if uint32(a[2]) != 0 {
		return errno.EINVAL.R0()
	}
	return asyncInit(r, a, clockMonotonic)
}

// wqStart has the callback run as soon as there is a free slot, or, where tests step the clock, with its next step.
func wqStart(_ *rt.Run, a *[12]uint64) uint64 {
	f := async.At(uintptr(a[0]))
	if uint32(a[1]) != 0 || f == nil {
		return errno.EINVAL.R0()
	}
	return f.Start(f.Clock().Now(), false).R0()
}
