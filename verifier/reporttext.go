package verifier

import (
	"fmt"
	"path"
	"strings"
)

// This file prints reports for people: the error, the source line with a mark under the place, the story, the help.

// String is the report as text of several lines, in the manner of compilers.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "error[%s]: %s\n", r.Code, r.Message)
	width := r.gutter()
	pad := strings.Repeat(" ", width)
	if r.At != nil {
		r.At.print(&b, width, "--> ", r.marked())
	} else {
		fmt.Fprintf(&b, "%s--> program %s\n", pad, r.Program)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "%s = note: %s\n", pad, n)
	}
	for i := range r.Story {
		e := &r.Story[i]
		fmt.Fprintf(&b, "%s |\n", pad)
		fmt.Fprintf(&b, "note: %s\n", e.words())
		e.print(&b, width, "--> ", "")
		if i == 0 && r.Left > 0 {
			fmt.Fprintf(&b, "%s = ... %d more\n", pad, r.Left)
		}
	}
	if len(r.Help) > 0 {
		fmt.Fprintf(&b, "%s |\n", pad)
	}
	for _, h := range r.Help {
		fmt.Fprintf(&b, "%s = help: %s\n", pad, h)
	}
	return b.String()
}

// gutter is the width of the column with line numbers.
func (r *Report) gutter() int {
	width := 2
	if r.At != nil {
		width = max(width, len(itoa(r.At.Line)))
	}
	for i := range r.Story {
		width = max(width, len(itoa(r.Story[i].Line)))
	}
	return width
}

// marked is what stands behind the mark: the value at fault.
func (r *Report) marked() string {
	switch {
	case r.Subject == "":
		return ""
	case r.Value == "":
		return r.Subject + " has no value here"
	}
	return r.Subject + " is " + r.Value
}

// print writes where a place is, its source line with a mark under it, and its instruction; without a source line the mark stands under
// the instruction.
func (p *Place) print(b *strings.Builder, width int, arrow, mark string) {
	pad := strings.Repeat(" ", width)
	at := fmt.Sprintf("insn %d", p.Insn)
	if p.Func != "" {
		at = p.Func + ", " + at
	}
	if p.File == "" {
		fmt.Fprintf(b, "%s%s%s\n%s |\n%*d | %s\n%s | %s\n", pad, arrow, at, pad, width, p.Insn, p.Text, pad, marks(p.Text, 0, mark))
		return
	}
	place := fmt.Sprintf("%s:%d", path.Base(p.File), p.Line)
	if p.Column > 0 {
		place += fmt.Sprintf(":%d", p.Column)
	}
	source := strings.ReplaceAll(strings.TrimRight(p.Source, " \t\n"), "\t", "    ")
	column := 0
	if p.Column > 0 && p.Column <= len(p.Source) {
		column = p.Column + 3*strings.Count(p.Source[:p.Column-1], "\t")
	}
	fmt.Fprintf(b, "%s%s%s (%s: %s)\n%s |\n%*d | %s\n%s | %s\n", pad, arrow, place, at, p.Text, pad, width, p.Line, source, pad, marks(source, column, mark))
}

// marks is the line under a source line: a mark at a column, or under all of it if that is not known.
func marks(source string, column int, mark string) string {
	indent := len(source) - len(strings.TrimLeft(source, " "))
	line := strings.Repeat(" ", indent) + strings.Repeat("^", max(1, len(source)-indent))
	if column > 0 {
		line = strings.Repeat(" ", column-1) + "^"
	}
	return strings.TrimRight(line+" "+mark, " ")
}

// words says what happened.
func (e *Event) words() string {
	to := e.Operand
	if e.After != "" {
		to += " is " + e.After
	}
	switch e.Kind {
	case EventSet:
		if e.After == "" {
			return e.Operand + " is set here"
		}
		return to + " from here on"
	case EventCopied:
		return to + ": copied"
	case EventStored:
		return to + ": stored on the stack"
	case EventLoaded:
		return to + ": loaded"
	case EventComputed:
		return to + ": computed" + e.from()
	case EventChecked:
		return to + ": a comparison says so" + e.from()
	case EventLost:
		if e.After == "" {
			return e.Operand + " has no value from here on" + e.from()
		}
		return to + ": what was known is lost" + e.from()
	case EventAcquired:
		return "the reference is acquired here"
	case EventTaken:
		return "this jump was taken on the way"
	case EventNotTaken:
		return "this jump was not taken on the way"
	}
	return to
}

// from is what was known before an event.
func (e *Event) from() string {
	if e.Before == "" || e.Before == e.After {
		return ""
	}
	return ", it was " + e.Before
}
