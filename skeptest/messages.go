package skeptest

import (
	"fmt"
	"regexp"
	"strings"
)

// message is text that the log must have, or, if not is set, must not have between the messages around it.
type message struct {
	text string
	re   *regexp.Regexp // nil for plain text
	not  bool
}

// parseMessage compiles a message: plain text, or text with POSIX extended regular expressions between {{ and }}.
func parseMessage(text string) (message, error) {
	m := message{text: text}
	if !strings.Contains(text, "{{") {
		return m, nil
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		plain, after, found := strings.Cut(rest, "{{")
		b.WriteString(regexp.QuoteMeta(plain))
		if !found {
			break
		}
		re, tail, ok := strings.Cut(after, "}}")
		if !ok {
			return m, fmt.Errorf("{{ without }}")
		}
		b.WriteString(byLine(re))
		rest = tail
	}
	re, err := regexp.Compile("(?m)" + b.String())
	if err == nil {
		re.Longest() // as POSIX has it
	}
	m.re = re
	return m, err
}

// byLine keeps negated classes from matching the end of a line, as REG_NEWLINE does: [^x] becomes [^\nx].
func byLine(re string) string {
	var b strings.Builder
	for i := 0; i < len(re); i++ {
		switch {
		case re[i] == '\\' && i+1 < len(re):
			b.WriteString(re[i : i+2])
			i++
		case strings.HasPrefix(re[i:], "[^]"):
			b.WriteString(`[^\n\]`)
			i += 2
		case strings.HasPrefix(re[i:], "[^"):
			b.WriteString(`[^\n`)
			i++
		default:
			b.WriteByte(re[i])
		}
	}
	return b.String()
}

// find returns where the message begins and ends in log, -1 if it is not there.
func (m *message) find(log string) (from, to int) {
	if m.re != nil {
		if at := m.re.FindStringIndex(log); at != nil {
			return at[0], at[1]
		}
		return -1, -1
	}
	i := strings.Index(log, m.text)
	return i, i + len(m.text)
}

// checkMessages reports the first message that the log does not have behind those before it, or has though it must not
// (validate_msgs). With newer, what is not there is looked for once more in newer words; renamed counts the messages that were found in newer words only.
func checkMessages(log string, messages []message, newer bool) (renamed int, err error) {
	log = withoutAnnotations(log)
	for i := 0; i < len(messages); i++ {
		first := i
		for i < len(messages) && messages[i].not {
			i++
		}
		end, next := len(log), len(log)
		if i < len(messages) {
			from, to := messages[i].find(log)
			if from < 0 && newer {
				if from, to = messages[i].findNewer(log); from >= 0 {
					renamed++
				}
			}
			if from < 0 {
				return renamed, fmt.Errorf("message not found: %s", messages[i].text)
			}
			end, next = from, to
		}
		for _, n := range messages[first:i] {
			if from, _ := n.find(log[:end]); from >= 0 {
				return renamed, fmt.Errorf("unexpected message: %s", n.text)
			}
		}
		log = log[next:]
	}
	return renamed, nil
}

// withoutAnnotations takes the source lines that hold annotations out of a log: where they stand on one line with the
// function's head, a message would find itself there.
func withoutAnnotations(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "; ") || !strings.Contains(line, "__msg(") {
			b.WriteString(line)
		}
	}
	return b.String()
}
