// Command carve finds the BPF objects in a tree of files, stand-alone ones and images embedded in other files, and writes each once.
//
//	carve FROM TO     TO/PATH-HASH.o for each
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: carve FROM TO")
		os.Exit(2)
	}
	n, err := carve(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "carve:", err)
		os.Exit(1)
	}
	fmt.Println(n, "objects in", os.Args[2])
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// carve writes the objects below from and returns how many there are.
func carve(from, to string) (int, error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return 0, err
	}
	seen := map[[32]byte]bool{}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		label := strings.TrimSuffix(notInNames.ReplaceAllString(rel, "_"), ".o")
		for _, image := range images(b) {
			sum := sha256.Sum256(image)
			if seen[sum] {
				continue
			}
			seen[sum] = true
			if err := os.WriteFile(filepath.Join(to, fmt.Sprintf("%s-%x.o", label, sum[:4])), image, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	return len(seen), err
}

// images returns the BPF objects in b.
func images(b []byte) (found [][]byte) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(elf.ELFMAG))
		if i < 0 {
			return found
		}
		at += i
		n := imageSize(b[at:])
		if n > 0 {
			found = append(found, b[at:at+n])
		}
		at += max(n, 1)
	}
}

// imageSize returns the size of the relocatable BPF object at the start of b, 0 if there is none: it ends behind its section
// headers or its last section.
func imageSize(b []byte) int {
	const header, sectionHeader = 64, 64
	if len(b) < header || elf.Class(b[4]) != elf.ELFCLASS64 {
		return 0
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(b[5]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	if elf.Type(order.Uint16(b[16:])) != elf.ET_REL || elf.Machine(order.Uint16(b[18:])) != elf.EM_BPF {
		return 0
	}
	table, count := order.Uint64(b[40:]), uint64(order.Uint16(b[60:]))
	end := table + count*sectionHeader
	if table < header || table > uint64(len(b)) || end > uint64(len(b)) {
		return 0
	}
	for i := range count {
		s := b[table+i*sectionHeader:]
		off, size := order.Uint64(s[24:]), order.Uint64(s[32:])
		if elf.SectionType(order.Uint32(s[4:])) != elf.SHT_NOBITS && off <= uint64(len(b)) && size <= uint64(len(b))-off {
			end = max(end, off+size)
		}
	}
	return int(end)
}
