package verifier_test

import (
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/verifier"
)

var update = flag.Bool("update", false, "write the errors into docs/rejections.md")

const rejectionsDoc = "../docs/rejections.md"

// TestRejectionsDoc: docs/rejections.md has a section for each Code, in the order of errors.go, whose program is rejected
// with that code, and with the error and the report shown under it. With -update these are written anew.
func TestRejectionsDoc(t *testing.T) {
	raw, err := os.ReadFile(rejectionsDoc)
	if err != nil {
		t.Fatal(err)
	}
	intro, rest, _ := strings.Cut(string(raw), "\n## ")
	out := intro
	var have []string
	for _, section := range strings.Split(rest, "\n## ") {
		code, body, _ := strings.Cut(section, "\n")
		have = append(have, code)
		_, src, ok := strings.Cut(body, "```\n")
		src, _, ok2 := strings.Cut(src, "```\n")
		if !ok || !ok2 {
			t.Fatalf("section %s has no program", code)
		}
		text := rejectionText(t, code, src)
		at := strings.Index(body, "\n    ")
		switch {
		case *update && at < 0:
			body = strings.TrimRight(body, "\n") + "\n\n    " + text + "\n"
		case *update:
			body = body[:at] + "\n    " + text + "\n"
		case at < 0 || strings.TrimSpace(body[at:]) != text:
			t.Errorf("section %s: the error is\n    %s", code, text)
		}
		out += "\n## " + code + "\n" + body
	}
	if *update {
		if err := os.WriteFile(rejectionsDoc, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := codesInSource(t); strings.Join(have, " ") != strings.Join(want, " ") {
		t.Errorf("sections %v\nwant %v", have, want)
	}
}

func rejectionText(t *testing.T, code, src string) string {
	t.Helper()
	p := source(t, src)
	_, err := verifier.Verify(p, options(0))
	var ve *verifier.Error
	if !errors.As(err, &ve) {
		t.Errorf("section %s: the program is accepted", code)
		return ""
	}
	if string(ve.Code) != code {
		t.Errorf("section %s: the code is %s (%v)", code, ve.Code, ve)
	}
	text := ve.Error() + "\n\n" + verifier.Explain(p, options(0), ve).String()
	text = strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
	return strings.ReplaceAll(text, "\n    \n", "\n\n")
}

// codesInSource lists the values of the constants of type Code.
func codesInSource(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "Code" {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, s)
		return true
	})
	if len(codes) == 0 {
		t.Fatal("no codes in errors.go")
	}
	return codes
}
