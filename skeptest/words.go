package skeptest

import "github.com/skep-bpf/skep/verifier"

// findNewer is find for the message in newer words: annotations of older kernels' tests have the words of their time, and skep speaks as
// 6.18 does unless it is asked for the words of another kernel (skep.Options.Target).
func (m *message) findNewer(log string) (from, to int) {
	for _, text := range verifier.NewerWords(m.text) {
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
