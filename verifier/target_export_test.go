package verifier

// The tables of target.go, for tests of their names.
var (
	Helpers612     = func() map[string]bool { return keysOf(helpers612) }
	KfuncsAfter612 = func() []string { return kfuncsAfter612 }
)

func keysOf[V any](m map[string]V) map[string]bool {
	keys := map[string]bool{}
	for k := range m {
		keys[k] = true
	}
	return keys
}
