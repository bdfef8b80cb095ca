package verifier

import "errors"

// Back edges. A path may end at a checkpoint whose own continuation is not finished: where a loop of rounds comes back to its head.
// What that continuation will read and decide on is not known then, and so not what the way to the back edge has to keep: the
// checkpoints above it are incomplete. A path that ends at one of them is a back edge too.
//
// They are complete again when the continuation of every checkpoint that a back edge leads to is finished. What these read and
// decide on is then carried over each back edge, which can add to what another one has to carry, until nothing is added. Each
// leaf below a checkpoint is then an end of the program, a complete checkpoint whose marks were carried when it was met, or
// a back edge whose marks are: so the marks are all there are.
//
// Comparisons with incomplete checkpoints go by the marks that are known, in the hope that they are all, and are made again when they
// are complete. If one does not hold then, the walk begins anew, and such comparisons take the ranges of all scalars (careful).
//
// Linux, which has add_scc_backedge and propagate_backedges for each strongly connected component, is careful from the beginning; it has
// no back edges for callbacks.

// backEdge is a path that ended at old, unfinished or incomplete.
type backEdge struct {
	old, end *state
	insn     int
}

// maxCarries bounds the rounds over all back edges (MAX_BACKEDGE_ITERS). If they are not enough, what is incomplete stays so until
// the next time, in a careful walk.
const maxCarries = 64

// errCareful says that a comparison did not hold.
var errCareful = errors.New("a path ended too early")

// addBackEdge keeps that the current path ends at old, and marks what is incomplete by it.
func (e *env) addBackEdge(old, cur *state) {
	if old.branches > 0 && !old.target {
		old.target = true
		e.openTargets++
	}
	end := new(state)
	e.copyState(end, cur)
	e.backEdges = append(e.backEdges, backEdge{old, end, e.insn})
	if !e.aux[e.insn].callback {
		e.loopEdges++ // the kernel has none for callbacks
		e.notePeak()
	}
	e.stateBytes += stateSize(end)
	for s := cur.parent; s != nil && !s.incomplete; s = s.parent {
		s.incomplete = true
		e.incomplete = append(e.incomplete, s)
	}
}

// targetDone counts a checkpoint that a back edge leads to as finished, and completes what is incomplete if it was the last.
func (e *env) targetDone(s *state) error {
	s.target = false
	if e.openTargets--; e.openTargets > 0 {
		return nil
	}
	done, err := e.carryMarks()
	switch {
	case err != nil:
		return err
	case !e.careful && (!done || !e.edgesHold()):
		return errCareful
	case !done:
		return nil
	}
	for _, s := range e.incomplete {
		s.incomplete = false
	}
	e.dropBackEdges()
	return nil
}

// edgesHold reports whether every back edge leads to a checkpoint that covers its end by what is marked.
func (e *env) edgesHold() bool {
	for _, b := range e.backEdges {
		if !e.statesEqual(b.old, b.end, byMarks) {
			return false
		}
	}
	return true
}

// dropBackEdges forgets all back edges.
func (e *env) dropBackEdges() {
	for i := range e.backEdges {
		e.freeState(e.backEdges[i].end)
	}
	e.backEdges, e.incomplete, e.loopEdges = e.backEdges[:0], e.incomplete[:0], 0
}

// carryMarks carries what the continuations read and decide on over the back edges until nothing is added; false if that takes too long.
func (e *env) carryMarks() (bool, error) {
	st, insn := e.st, e.insn
	defer func() { e.st, e.insn = st, insn }()
	for range maxCarries {
		before := e.marks
		for _, b := range e.backEdges {
			e.st, e.insn = b.end, b.insn
			e.propagateReads(b.old, b.end)
			if err := e.propagatePrecision(b.old, b.end); err != nil {
				return false, err
			}
		}
		if e.marks == before {
			return true, nil
		}
	}
	return false, nil
}
