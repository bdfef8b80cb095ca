package verifier

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Report says of a rejection what was violated and where, how the value at fault came to be what it is, and what usually helps.
type Report struct {
	Program string `json:"program"`
	Code    Code   `json:"code"`
	// Message is what is wrong, in the kernel's words; Notes are the lines that follow it there.
	Message string   `json:"message"`
	Notes   []string `json:"notes"`
	// At is the place that was refused; nil if it is the program as a whole.
	At *Place `json:"at"`
	// Subject is the register, stack slot or stack argument at fault, as the log calls it, and Value its value there; "" if the
	// message is about none, or if it has no value.
	Subject string `json:"subject"`
	Value   string `json:"value"`
	// Story is what happened to it on the way, in the order of execution. Left says how many events are left out behind the first.
	Story []Event `json:"story"`
	Left  int     `json:"left_out"`
	// Help are remedies.
	Help []string `json:"help"`
}

// Place is an instruction and the source line that it comes from, if the program has line information.
type Place struct {
	Insn   int    `json:"insn"`
	Func   string `json:"func"`
	Text   string `json:"text"` // the instruction, as the log has it
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"` // from 1; 0 if it is not known
	Source string `json:"source"`
}

// EventKind says what happens in an event.
type EventKind string

// The kinds of events.
const (
	EventSet      EventKind = "set"      // the value begins here: a constant, the result of a call, a load
	EventCopied   EventKind = "copied"   // from another register, or by a call or return
	EventStored   EventKind = "stored"   // on the stack
	EventLoaded   EventKind = "loaded"   // from the stack
	EventComputed EventKind = "computed" // from what it was and another operand
	EventChecked  EventKind = "checked"  // a comparison says more about it
	EventLost     EventKind = "lost"     // less is known of it than before, or nothing
	EventAcquired EventKind = "acquired" // a reference that has to be released
	EventTaken    EventKind = "taken"    // a conditional jump on the way that was taken
	EventNotTaken EventKind = "not-taken"
)

// Event is one thing that happened to the value of a report on its way.
type Event struct {
	Place
	Kind EventKind `json:"kind"`
	// Operand is where the value is after the event, Before and After what the verifier knows of it.
	Operand string `json:"operand"`
	Before  string `json:"before"`
	After   string `json:"after"`

	step int
}

// maxEvents bounds a story: its first event and the last ones are kept.
const maxEvents = 10

// Explain says why Verify refused p under opt with the error rejected. It verifies again, twice at most, to look at the way there: do
// not call it where nobody reads it.
func Explain(p *program.Program, opt Options, rejected *Error) (r *Report) {
	r = newReport(p, rejected)
	defer func() {
		if recover() != nil { // a contradiction in the verifier: the report goes without a story
			r.Story, r.Left, r.Value = nil, 0, ""
		}
		r.Help = helpFor(r)
	}()
	switch rejected.Code {
	case CodeTooComplex, CodeInternal, CodeUnsupported:
		return r
	}
	if r.At != nil {
		r.tell(p, opt)
	}
	return r
}

func newReport(p *program.Program, rejected *Error) *Report {
	lines := strings.Split(strings.TrimRight(rejected.Message, "\n"), "\n")
	r := &Report{Program: rejected.Program, Code: rejected.Code, Message: lines[0], Notes: lines[1:]}
	if rejected.Insn >= 0 && rejected.Insn < len(p.Insns) {
		at := placeOf(p, rejected.Insn)
		r.At = &at
	}
	return r
}

func placeOf(p *program.Program, pc int) Place {
	names := isa.Names{Kfunc: func(in isa.Insn) string {
		if k := int(in.Imm); k >= 0 && k < len(p.Kfuncs) {
			return p.Kfuncs[k].Name
		}
		return ""
	}}
	at := Place{Insn: pc, Text: string(isa.AppendText(nil, p.Insns, pc, &names))}
	if in := p.Insns[pc]; in.IsLdImm64() && (in.Src == isa.PseudoMapFD || in.Src == isa.PseudoMapValue) && in.Imm >= 0 && int(in.Imm) < len(p.Maps) {
		at.Text = fmt.Sprintf("(18) r%d = map[%s]", in.Dst, p.Maps[in.Imm].Name) // addresses are not shown
	}
	if _, text, ok := strings.Cut(at.Text, ") "); ok { // the opcode in front says nothing to a reader
		at.Text = text
	}
	if f := p.FuncAt(pc); f >= 0 {
		at.Func = p.Funcs[f].Name
	}
	if l := p.LineAt(pc); l != nil {
		at.File, at.Line, at.Column, at.Source = l.File, int(l.Number), int(l.Column), l.Text
	}
	return at
}

// tell fills in the story.
func (r *Report) tell(p *program.Program, opt Options) {
	opt.LogLevel, opt.Visit = 0, nil
	first := newEnv(p, opt)
	first.trail = &trail{}
	if _, err := first.run(); err == nil {
		return
	}
	steps := first.trail.steps
	if r.acquired(p, steps) || len(steps) == 0 || int(steps[len(steps)-1].pc) != r.At.Insn {
		return
	}
	subject, ok := subjectOf(r, steps[len(steps)-1])
	if !ok {
		return
	}
	budget := maxSliced
	s := slicer{p: p, steps: steps, at: subject, budget: &budget}
	s.run()
	end := steps[len(steps)-1].n
	second := newEnv(p, opt)
	second.trail = &trail{looks: map[int][]operand{end: {subject}}, found: map[look]string{}}
	second.trail.lookAt(s.found)
	_, _ = second.run()
	r.Subject, r.Value = subject.name(), second.trail.found[look{end, subject}]
	r.story(p, s.found, second.trail.found)
	if r.Value == "" && len(r.Story) == 0 {
		r.way(p, steps)
	}
}

// story makes events of what may have happened, latest first, and leaves out what changed nothing.
func (r *Report) story(p *program.Program, found []happening, values map[look]string) {
	events := eventsOf(p, found, values)
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.step, b.step) })
	events = slices.CompactFunc(events, func(a, b Event) bool { return a.step == b.step && a.Operand == b.Operand })
	if len(events) > maxEvents {
		r.Left = len(events) - maxEvents
		events = append(events[:1:1], events[1+r.Left:]...)
	}
	r.Story = events
}

func eventsOf(p *program.Program, found []happening, values map[look]string) (events []Event) {
	for _, h := range found {
		e := Event{Place: placeOf(p, int(h.pc)), Kind: h.kind, Operand: h.after.name(), Before: values[h.before], After: values[h.after], step: h.before.n}
		if h.ifChanged && e.Before == e.After {
			continue
		}
		if lost(&e) {
			e.Kind = EventLost
		}
		events = append(events, e)
		if e.Before != "" && !isScalarText(e.Before) {
			events = append(events, eventsOf(p, h.other, values)...)
		}
		if h.ends {
			break
		}
	}
	return events
}

// way tells which way was gone to a place where an operand has no value: the last comparisons.
func (r *Report) way(p *program.Program, steps []trailStep) {
	for i := len(steps) - 2; i >= 0 && len(r.Story) < maxWay; i-- {
		pc := int(steps[i].pc)
		in := p.Insns[pc]
		jump := in.Class() == isa.ClassJMP || in.Class() == isa.ClassJMP32
		if !jump || in.IsCall() || in.IsExit() || in.JmpOp() == isa.JmpJA {
			continue
		}
		e := Event{Place: placeOf(p, pc), Kind: EventNotTaken}
		if int(steps[i+1].pc) != pc+1 {
			e.Kind = EventTaken
		}
		r.Story = append([]Event{e}, r.Story...)
	}
}

// maxWay is how many comparisons way tells of.
const maxWay = 3

// isScalarText reports whether a value in the log's words is a number.
func isScalarText(s string) bool {
	return strings.HasPrefix(strings.TrimPrefix(s, "P"), "scalar(") || isNumber(s)
}

// lost reports whether an event left nothing known of what was known before.
func lost(e *Event) bool {
	unknown := strings.HasPrefix(e.After, "scalar(") && !strings.Contains(e.After, "max") && !strings.Contains(e.After, "var_off")
	bounded := strings.Contains(e.Before, "max") || isNumber(e.Before) || e.Before != "" && !isScalarText(e.Before)
	return e.After == "" && e.Before != "" || unknown && bounded && e.Kind != EventSet
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(strings.TrimPrefix(s, "P"), 0, 64)
	return err == nil
}

var (
	leakedRef    = regexp.MustCompile(`Unreleased reference id=\d+ alloc_insn=(\d+)`)
	slotAtOff    = regexp.MustCompile(`stack (?:R\d+ )?off (-\d+)\+(\d+)`)
	slotInText   = regexp.MustCompile(`stack arg(\d+) `)
	numberInText = regexp.MustCompile(`stack arg#(\d+) `)
	registerIn   = regexp.MustCompile(`\bR(\d+)\b`)
)

// acquired tells the story of a reference that is not released, and reports whether it is about one.
func (r *Report) acquired(p *program.Program, steps []trailStep) bool {
	m := leakedRef.FindStringSubmatch(r.Message)
	if m == nil {
		return false
	}
	pc, err := strconv.Atoi(m[1])
	if err != nil || pc >= len(p.Insns) {
		return false
	}
	r.Story = []Event{{Place: placeOf(p, pc), Kind: EventAcquired, Operand: "R0"}}
	return true
}

// subjectOf finds out which operand a message is about, at the last step.
func subjectOf(r *Report, last trailStep) (operand, bool) {
	text := strings.Join(append([]string{r.Message}, r.Notes...), "\n")
	number := func(s string) int32 { n, _ := strconv.Atoi(s); return int32(n) }
	if m := slotAtOff.FindStringSubmatch(text); m != nil {
		if at := number(m[1]) + number(m[2]); at < 0 && at >= -isa.StackSize {
			return operand{frame: last.frame, slot: (at - 7) / 8 * 8}, true
		}
	}
	if m := slotInText.FindStringSubmatch(text); m != nil && number(m[1]) >= 1 && number(m[1]) <= isa.MaxStackArgs {
		return operand{frame: last.frame, op: firstSlot + number(m[1]) - 1}, true
	}
	if m := numberInText.FindStringSubmatch(text); m != nil && number(m[1]) > isa.MaxRegArgs && number(m[1]) <= isa.MaxRegArgs+isa.MaxStackArgs {
		return operand{frame: last.frame, op: firstSlot + number(m[1]) - isa.MaxRegArgs - 1}, true
	}
	if m := registerIn.FindStringSubmatch(text); m != nil && number(m[1]) < int32(isa.R10) {
		return operand{frame: last.frame, op: number(m[1])}, true
	}
	return operand{}, false
}
