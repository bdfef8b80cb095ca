// Command gen writes the pictures into a directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/skep-bpf/skep/internal/abi/picture"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen DIRECTORY")
		os.Exit(2)
	}
	for _, p := range picture.Pictures {
		if err := os.WriteFile(filepath.Join(os.Args[1], p.File), picture.Frame(p.Arch, p.Title), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
