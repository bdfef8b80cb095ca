package verifier

import (
	"fmt"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/scalar"
)

// logger collects the log. At level 0 nothing is formatted at all.
type logger struct {
	buf     []byte
	level   uint32
	limit   int
	dropped bool
}

const defaultLogLimit = 16 << 20

// on reports whether the walk itself is logged.
func (l *logger) on() bool { return l.level&(LogBranch|LogAll) != 0 }

// all reports whether every path stays in the log.
func (l *logger) all() bool { return l.level&LogAll != 0 }

func (l *logger) printf(format string, args ...any) {
	if l.level == 0 {
		return
	}
	l.buf = fmt.Appendf(l.buf, format, args...)
	if len(l.buf) > 2*l.limit {
		l.trim()
	}
}

// trim keeps the last limit bytes, from the start of a line: the end of a log says why a program was rejected.
func (l *logger) trim() {
	if len(l.buf) <= l.limit {
		return
	}
	l.dropped = true
	tail := l.buf[len(l.buf)-l.limit:]
	for i, c := range tail {
		if c == '\n' {
			tail = tail[i+1:]
			break
		}
	}
	l.buf = append(l.buf[:0], tail...)
}

func (l *logger) reset(pos int) {
	if pos < len(l.buf) {
		l.buf = l.buf[:pos]
	}
}

// String returns the log as far as it was kept.
func (l *logger) String() string { l.trim(); return string(l.buf) }

// Alignment of the state behind an instruction (BPF_LOG_ALIGNMENT, BPF_LOG_MIN_ALIGNMENT).
const (
	logColumn    = 40
	logMinColumn = 8
)

// operandName is the name of an operand in messages: R0..R10, then *(R11-8)..*(R11-56).
func operandName(op int) string {
	if op < firstSlot {
		return fmt.Sprintf("R%d", op)
	}
	return fmt.Sprintf("*(R11-%d)", 8*(op-firstSlot+1))
}

// argName names argument i (from 0) of a kfunc in messages that count arguments.
func argName(i int) string {
	if i < isa.MaxRegArgs {
		return fmt.Sprintf("arg#%d", i)
	}
	return operandName(argOperand(i + 1))
}

func (e *env) appendReg(b []byte, fr *frame, r *reg) []byte {
	t := r.typ
	if t == scalarValue {
		if r.precise && (!e.opt.ExactStates || e.lacks(CapBPF)) {
			b = append(b, 'P')
		}
		if r.Var.IsConst() {
			return scalar.AppendSigned(b, int64(r.Var.Value))
		}
	}
	b = append(b, t.String()...)
	if t == ptrToArena {
		return b
	}
	if t == ptrToStack {
		if fr.no != r.aux {
			b = fmt.Appendf(b, "[%d]", r.aux)
		}
		if r.Var.IsConst() {
			return scalar.AppendSigned(b, int64(r.Var.Value)+int64(r.off))
		}
	}
	if t.base() == ptrToBTF {
		b = append(b, e.types[r.aux].TypeName()...)
	}
	b = append(b, '(')
	if r.id != 0 {
		b = fmt.Appendf(b, "id=%d", r.id&^addConst)
		if r.id&addConst != 0 {
			b = fmt.Appendf(b, "%+d", r.off)
		}
	}
	if t == constPtrToDynptr {
		return append(append(append(sep(b), "type="...), DynptrKind(r.aux).String()...), ')')
	}
	b = e.appendPointer(b, r)
	if r.Var.IsConst() {
		if r.Var.Value != 0 {
			b = scalar.AppendSigned(append(sep(b), "imm="...), int64(r.Var.Value))
		}
	} else {
		b = r.AppendRanges(b)
	}
	return append(b, ')')
}

func sep(b []byte) []byte {
	if b[len(b)-1] != '(' {
		return append(b, ',')
	}
	return b
}

// appendPointer adds what only pointers have.
func (e *env) appendPointer(b []byte, r *reg) []byte {
	if r.ref != 0 {
		b = fmt.Appendf(sep(b), "ref_obj_id=%d", r.ref)
	}
	if r.typ&nonOwn != 0 {
		b = append(sep(b), "non_own_ref"...)
	}
	if r.typ.isMapPointer() {
		m := &e.maps[r.aux]
		if m.Name != "" {
			b = append(append(sep(b), "map="...), kernelName(m.Name)...)
		}
		b = fmt.Appendf(sep(b), "ks=%d,vs=%d", m.KeySize, m.ValueSize)
	}
	if r.typ != scalarValue && r.off != 0 {
		b = scalar.AppendSigned(append(sep(b), "off="...), int64(r.off))
	}
	if r.typ.isPacket() {
		b = scalar.AppendUnsigned(append(sep(b), "r="...), uint64(int64(r.rng)))
	}
	if r.typ.base() == ptrToMem {
		b = scalar.AppendUnsigned(append(sep(b), "sz="...), uint64(uint32(r.aux)))
	}
	return b
}

// kernelName cuts a name to what the kernel keeps (BPF_OBJ_NAME_LEN).
func kernelName(s string) string {
	if len(s) > 15 {
		return s[:15]
	}
	return s
}

// printState writes one frame's registers, stack arguments and stack, all of them or only those that changed
// (print_verifier_state).
func (e *env) printState(st *state, fr *frame, all bool) {
	b := e.log.buf
	if fr.no != 0 {
		b = fmt.Appendf(b, " frame%d:", fr.no)
	}
	for i := range fr.regs {
		r := &fr.regs[i]
		if r.typ == notInit || !all && e.scratchedRegs>>i&1 == 0 {
			continue
		}
		b = append(e.appendRegMarks(append(append(b, ' '), operandName(i)...), fr, i), '=')
		b = e.appendReg(b, fr, r)
	}
	for i := range fr.stack {
		if all || e.scratchedStack>>i&1 != 0 {
			b = e.appendSlot(b, fr, i)
		}
	}
	if len(st.refs) > 0 && st.refs[0].id != 0 {
		b = fmt.Appendf(b, " refs=%d", st.refs[0].id)
		for _, r := range st.refs[1:] {
			if r.id != 0 {
				b = fmt.Appendf(b, ",%d", r.id)
			}
		}
	}
	switch {
	case fr.callback:
		b = append(b, " cb"...)
	case fr.async != asyncNone:
		b = append(b, " async_cb"...)
	}
	e.log.buf = append(b, '\n')
	if !all {
		e.scratchedRegs, e.scratchedStack = 0, 0
	}
}

func (e *env) appendSlot(b []byte, fr *frame, i int) []byte {
	s := &fr.stack[i]
	var types [8]byte
	valid := false
	for j, t := range s.typ {
		valid = valid || t != slotInvalid
		types[j] = slotChars[t]
	}
	if !valid {
		return b
	}
	if s.typ[0] == slotIter {
		if s.spilled.ref == 0 {
			return b // the first slot speaks for all of them
		}
		name := map[int32]string{iterActive: "active", iterDrained: "drained"}[s.spilled.aux]
		return fmt.Appendf(b, " fp%d=iter_%s(ref_id=%d,state=%s,depth=%d)", -8*(i+1), e.iterKinds[s.spilled.rng].name, s.spilled.ref, name, s.spilled.off)
	}
	if s.isDynptr() {
		if s.spilled.off != dynptrFirst {
			return b // written with the first slot
		}
		return appendDynptr(b, &s.spilled, i)
	}
	b = append(e.appendSlotMarks(fmt.Appendf(b, " fp%d", -8*(i+1)), fr, i), '=')
	if !s.isSpill() {
		return append(b, types[:]...)
	}
	n := 0
	for n < 8 && s.typ[n] != slotSpill {
		n++
	}
	return e.appendReg(append(b, types[:n]...), fr, &s.spilled)
}

// printInsnState writes the changed state behind the instruction just printed, or on a line of its own
// (print_insn_state).
func (e *env) printInsnState(st *state) {
	if e.prevLogPos != 0 && e.prevLogPos == len(e.log.buf) {
		e.log.reset(e.prevLogPos - 1)
		pos := e.prevInsnLen
		width := max(pos+logMinColumn/2, logColumn)
		width = (width+logMinColumn-1)/logMinColumn*logMinColumn - pos - 1
		e.log.printf("%s;", strings.Repeat(" ", width))
	} else {
		e.log.printf("%d:", e.insn)
	}
	e.printState(st, st.fr(), false)
}

// printInsn writes the source line, where it changes, and the instruction.
func (e *env) printInsn(pc int) {
	e.printLine(pc, "; ")
	start := len(e.log.buf)
	e.log.printf("%d: ", pc)
	e.log.buf = isa.AppendText(e.log.buf, e.prog.Insns, pc, &e.names)
	e.log.buf = append(e.log.buf, '\n')
	e.prevInsnLen = len(e.log.buf) - start
	e.prevLogPos = len(e.log.buf)
}

// printLine writes the source line that pc belongs to unless it was the last one written (verbose_linfo).
func (e *env) printLine(pc int, prefix string) {
	if e.log.level == 0 {
		return
	}
	l := e.prog.LineAt(pc)
	if l == nil || l == e.prevLine {
		return
	}
	if p := e.prevLine; p != nil && p.File == l.File && p.Number == l.Number {
		return
	}
	e.prevLine = l
	e.log.printf("%s%s @ %s:%d\n", prefix, strings.TrimLeft(l.Text, " \t"), baseName(l), l.Number)
}

func baseName(l *program.Line) string { return l.File[strings.LastIndexByte(l.File, '/')+1:] }

// printStats writes the closing lines (print_verification_stats).
func (e *env) printStats(s *Stats, accepted bool) {
	if e.log.level&LogStats != 0 {
		e.log.printf("verification time %d usec\nstack depth ", s.Time.Microseconds())
		plus := ""
		for i, d := range s.StackDepth {
			if accepted && !e.facts[e.prog.Funcs[i].Start].Seen {
				continue // the kernel has removed the function by now
			}
			e.log.printf("%s%d", plus, d)
			plus = "+"
		}
		if accepted && e.throws && e.exceptionCallback == 0 {
			e.log.printf("+0") // the kernel makes a callback of its own
		}
		e.log.printf("\n")
	}
	e.log.printf("processed %d insns (limit %d) max_states_per_insn %d total_states %d peak_states %d mark_read 0\n",
		s.Processed, int(isa.MaxInsns), s.MaxStates, s.TotalStates, s.PeakStates)
}
