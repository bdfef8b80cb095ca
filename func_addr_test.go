package skep

import "testing"

// TestFuncAddr: a program may load the address of a function of its own, whether something calls the function or not, and
// compare it, keep it and return it.
func TestFuncAddr(t *testing.T) {
	const functions = "\n.func int f(int a)\nr0 = 1\nexit\n.func int g(int a)\nr0 = 2\nexit"
	for name, c := range map[string]struct {
		src  string
		want uint32
	}{
		"nothing calls it":     {"r2 = f ll\nr1 = 0\ncall g\nr0 += 5\nexit", 7},
		"at the end":           {"r2 = g ll\nr1 = 0\ncall f\nr0 += 5\nexit", 6},
		"called as well":       {"r6 = f ll\nr1 = 0\ncall f\nr2 = g ll\nif r6 == 0 goto 1f\nr0 += 5\n1: exit", 6},
		"two differ":           {"r6 = f ll\nr7 = g ll\nr0 = 0\nif r6 == r7 goto 1f\nr0 = 1\n1: exit", 1},
		"the same":             {"r6 = g ll\nr7 = g ll\nr8 = f ll\nr0 = 0\nif r6 != r7 goto 1f\nr0 = 1\n1: exit", 1},
		"kept":                 {"r6 = f ll\nr8 = g ll\n*(u64 *)(r10 - 8) = r6\nr7 = *(u64 *)(r10 - 8)\nr0 = 0\nif r6 != r7 goto 1f\nr0 = 1\n1: exit", 1},
		"in code never walked": {"r0 = 3\nif r0 == 3 goto 1f\nr2 = f ll\nr3 = g ll\n1: exit", 3},
	} {
		src := ".func int prog(struct __sk_buff *ctx) global\n" + c.src + functions
		for _, e := range testEngines() {
			if got := runText(t, src, Options{Engine: e}); got != c.want {
				t.Errorf("%s, %s: %d, want %d", name, e, got, c.want)
			}
		}
	}
}
