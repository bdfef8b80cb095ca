package asmtext

import (
	"fmt"
	"strings"
)

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokIdent
	tokNumber
	tokPunct
	tokString
)

type token struct {
	kind tokenKind
	text string
}

func (t token) String() string {
	if t.kind == tokEOF {
		return "end of line"
	}
	return "'" + t.text + "'"
}

// puncts are the operators, longest first.
var puncts = []string{
	">>=", "<<=", "...",
	"+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "==", "!=", "<=", ">=", "<<", ">>",
	"=", "<", ">", "(", ")", "[", "]", "{", "}", ",", "*", "+", "-", "&", "|", ":", ";", "#", "!", "@", "/", "%", "^", "~",
}

func isIdentByte(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '.', c == '$':
		return true
	case c >= '0' && c <= '9':
		return !first
	}
	return false
}

// lex splits one line. Comments are // to the end of the line and /* */ within it.
func lex(line string) ([]token, error) {
	var out []token
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(line[i:], "//"):
			return out, nil
		case strings.HasPrefix(line[i:], "/*"):
			n := strings.Index(line[i+2:], "*/")
			if n < 0 {
				return nil, fmt.Errorf("comment without end")
			}
			i += n + 4
		case c == '"':
			n := strings.IndexByte(line[i+1:], '"')
			if n < 0 {
				return nil, fmt.Errorf("string without end")
			}
			out = append(out, token{tokString, line[i+1 : i+1+n]})
			i += n + 2
		case strings.HasPrefix(line[i:], "..."):
			out = append(out, token{tokPunct, "..."})
			i += 3
		case isIdentByte(c, true):
			j := i + 1
			for j < len(line) && isIdentByte(line[j], false) {
				j++
			}
			out = append(out, token{tokIdent, line[i:j]})
			i = j
		case c >= '0' && c <= '9':
			j := i + 1
			for j < len(line) && isIdentByte(line[j], false) {
				j++
			}
			out = append(out, token{tokNumber, line[i:j]})
			i = j
		default:
			p := ""
			for _, cand := range puncts {
				if strings.HasPrefix(line[i:], cand) {
					p = cand
					break
				}
			}
			if p == "" {
				return nil, fmt.Errorf("unexpected character %q", c)
			}
			out = append(out, token{tokPunct, p})
			i += len(p)
		}
	}
	return out, nil
}

// cursor reads a list of tokens.
type cursor struct {
	toks []token
	pos  int
}

func (c *cursor) peek() token { return c.at(0) }

func (c *cursor) at(n int) token {
	if c.pos+n < len(c.toks) {
		return c.toks[c.pos+n]
	}
	return token{}
}

func (c *cursor) next() token {
	t := c.peek()
	if c.pos < len(c.toks) {
		c.pos++
	}
	return t
}

func (c *cursor) done() bool { return c.pos >= len(c.toks) }

// accept takes the next token if it has the given text.
func (c *cursor) accept(text string) bool {
	if t := c.peek(); t.kind != tokString && t.kind != tokEOF && t.text == text {
		c.pos++
		return true
	}
	return false
}

func (c *cursor) expect(texts ...string) error {
	for _, text := range texts {
		if !c.accept(text) {
			return fmt.Errorf("expected '%s', found %s", text, c.peek())
		}
	}
	return nil
}

func (c *cursor) ident() (string, error) {
	if t := c.peek(); t.kind != tokIdent {
		return "", fmt.Errorf("expected a name, found %s", t)
	}
	return c.next().text, nil
}
