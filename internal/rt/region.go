package rt

// Region is a piece of memory [Base, Base+Size) that a program may touch.
type Region struct {
	Base, Size uint64
	ReadOnly   bool
	Name       string // for fault messages
}

// Contains reports whether all n bytes from addr on lie in the region.
func (g *Region) Contains(addr, n uint64) bool {
	return addr >= g.Base && addr-g.Base <= g.Size && g.Size-(addr-g.Base) >= n
}

// AddMem makes [base, base+size) accessible to the program for the rest of this run: memory that a helper or kfunc
// hands out. Only the interpreter, which checks every access, reads the list.
func (r *Run) AddMem(g Region) { r.mem = append(r.mem, g) }

// Mem returns the regions added by AddMem.
func (r *Run) Mem() []Region { return r.mem }

// ResetMem forgets all regions added by AddMem. Whoever runs several programs on one Run calls it between them.
func (r *Run) ResetMem() { r.mem = r.mem[:0] }
