// Package maps has the BPF map types. Elements lie outside the Go heap at addresses that do not change, so that a program
// (machine code or interpreted) holds a plain pointer to a value while Go code and other programs work on the same map.
//
// From Go a map has the methods of cilium/ebpf's Map, with the same signatures, flags and error values. Programs reach it
// through the helpers, by its handle (see registry.go). The package knows nothing of instructions, of the verifier or of
// machine code; what code needs to look values up by itself is in Layout.
package maps
