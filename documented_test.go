package skep_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocumented: every exported symbol of the packages that others can import has a comment.
func TestDocumented(t *testing.T) {
	seen := 0
	for _, dir := range []string{".", "maps", "helpers", "verifier", "skeptest", "perf"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		documented := false
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
			for _, d := range f.Decls {
				for _, missing := range undocumented(d, &seen) {
					t.Errorf("%s: %s has no comment", file, missing)
				}
			}
		}
		if !documented {
			t.Errorf("package %s has no comment", dir)
		}
	}
	if seen < 300 {
		t.Errorf("only %d symbols seen", seen)
	}
}

// undocumented returns the exported names of a declaration that no comment explains: one of their own, at the end of their
// line, or one above the group that they stand in.
func undocumented(d ast.Decl, seen *int) (missing []string) {
	check := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		*seen++
		for _, c := range docs {
			if c != nil {
				return
			}
		}
		missing = append(missing, name.Name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || receiver(d.Recv.List[0].Type).IsExported() {
			check(d.Name, d.Doc)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				check(s.Name, s.Doc, d.Doc)
				if st, ok := s.Type.(*ast.StructType); ok && s.Name.IsExported() {
					above := s.Doc // of a type of figures that speak for themselves, the type's comment is enough
					if above == nil {
						above = d.Doc
					}
					for _, f := range st.Fields.List {
						for _, n := range f.Names {
							check(n, f.Doc, f.Comment, above)
						}
					}
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					check(n, s.Doc, s.Comment, d.Doc)
				}
			}
		}
	}
	return missing
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e
	}
	return ast.NewIdent("_")
}
