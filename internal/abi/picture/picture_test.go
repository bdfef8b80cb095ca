package picture

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommitted: the pictures in docs are those of the tables. `go generate ./internal/abi/picture` makes them anew.
func TestCommitted(t *testing.T) {
	for _, p := range Pictures {
		want := Frame(p.Arch, p.Title)
		got, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", p.File))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), want) {
			t.Errorf("docs/%s is not what the table of %s says: run go generate ./internal/abi/picture", p.File, p.Arch.Name)
		}
	}
}

// TestPicture: a picture is XML, and has the place of each argument at both sides.
func TestPicture(t *testing.T) {
	for _, p := range Pictures {
		svg := Frame(p.Arch, p.Title)
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		for i, l := range p.Arch.Args {
			want := []string{">" + l.Name + "<"}
			if l.InMemory() {
				want = []string{
					fmt.Sprintf(">argument %d<", i+1), fmt.Sprintf(">[%s+%d]<", p.Arch.SP, l.Caller), fmt.Sprintf(">[%s+%d]<", p.Arch.FP, l.Callee),
				}
			}
			for _, w := range want {
				if !strings.Contains(string(svg), w) {
					t.Errorf("%s: no %s", p.Arch.Name, w)
				}
			}
		}
	}
}

var claims = regexp.MustCompile("`(Test\\w+|=== [^`]+)`")

// TestClaims: each test and each case of the verifier that docs/calling-convention.md names is there.
func TestClaims(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "calling-convention.md"))
	if err != nil {
		t.Fatal(err)
	}
	var there strings.Builder // everything that holds claims
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") && d.Name() != "stackargs.txt" {
			return err
		}
		b, err := os.ReadFile(path)
		there.Write(append(b, '\n'))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := claims.FindAllStringSubmatch(string(page), -1)
	if len(found) < 30 {
		t.Errorf("only %d claims found", len(found))
	}
	for _, m := range found {
		want := "\n" + strings.Join(strings.Fields(m[1]), " ") + "\n"
		if strings.HasPrefix(m[1], "Test") {
			want = "\nfunc " + m[1] + "("
		}
		if !strings.Contains(there.String(), want) {
			t.Errorf("there is no %s", m[1])
		}
	}
}
