package verifier

import "strconv"

// idMap pairs the ids of two states that are compared: an id of one may stand for just one id of the other (check_ids).
type idMap struct {
	pairs []idPair
	next  uint32
}

type idPair struct{ old, cur uint32 }

func (m *idMap) reset(gen uint32) { m.pairs, m.next = m.pairs[:0], gen }

func (m *idMap) same(old, cur uint32) bool {
	if (old == 0) != (cur == 0) {
		return false
	}
	if old == 0 {
		return true
	}
	for _, p := range m.pairs {
		if p.old == old {
			return p.cur == cur
		}
		if p.cur == cur {
			return false
		}
	}
	m.pairs = append(m.pairs, idPair{old, cur})
	return true
}

// sameScalar is same for scalars: an old one without an id had no link that the continuation could have relied on; a
// current one without an id is linked with nothing (check_scalar_ids).
func (m *idMap) sameScalar(old, cur uint32) bool {
	if old == 0 {
		return true
	}
	if cur == 0 {
		m.next++
		cur = m.next
	}
	if !m.same(old, cur) {
		return false
	}
	if old&addConst != 0 {
		return m.same(old&^addConst, cur&^addConst)
	}
	return true
}

func itoa(n int) string { return strconv.Itoa(n) }
