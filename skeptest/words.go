package skeptest

import "regexp"

// Annotations of older kernels' tests have the words of their time, and skep speaks as 6.18 does. A message that is not in
// the log is looked for once more in newer words. Each row says what changed; only what the kernel merely says otherwise is
// here, never what it decides otherwise.
var newerWords = []struct {
	old *regexp.Regexp
	new []string
}{
	// 6.18 keeps no liveness marks behind registers and slots: R1_w=, fp-8_rw=
	{regexp.MustCompile(`\b(R\d+|fp-\d+)_(?:w|r|rw)=`), []string{"${1}="}},
	// the direction stands in the place of "indirect access", with the preposition that goes with it
	{regexp.MustCompile(`(invalid(?: unbounded)?(?: variable-offset)?) indirect access to stack`), []string{"${1} read from stack", "${1} write to stack"}},
	{regexp.MustCompile(`invalid indirect read from stack`), []string{"invalid read from stack"}},
	// a lock, a preemption count or a reference is the same reason now (check_resource_leak)
	{regexp.MustCompile(`BPF_LD_\[ABS\|IND\] cannot be mixed with socket references`), []string{"BPF_LD_[ABS|IND] would lead to reference leak"}},
}

// findNewer is find for the message in newer words.
func (m *message) findNewer(log string) (from, to int) {
	for _, text := range inNewerWords(m.text) {
		n, err := parseMessage(text)
		if err != nil {
			continue
		}
		if from, to := n.find(log); from >= 0 {
			return from, to
		}
	}
	return -1, -1
}

// inNewerWords returns the texts that a message of an older kernel may have become; nil if no row is about it.
func inNewerWords(text string) []string {
	texts := []string{text}
	for _, w := range newerWords {
		var next []string
		for _, t := range texts {
			if !w.old.MatchString(t) {
				next = append(next, t)
				continue
			}
			for _, repl := range w.new {
				next = append(next, w.old.ReplaceAllString(t, repl))
			}
		}
		texts = next
	}
	if len(texts) == 1 && texts[0] == text {
		return nil
	}
	return texts
}
