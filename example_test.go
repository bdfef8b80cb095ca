package skep_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
)

// Load an object and run one of its programs on a packet.
func Example() {
	spec, err := skep.LoadCollectionSpec("testdata/nesting.o")
	if err != nil {
		log.Fatal(err)
	}
	coll, err := skep.NewCollectionWithOptions(spec, skep.Options{Programs: []string{"nesting"}})
	if err != nil {
		log.Fatal(err)
	}
	defer coll.Close()

	packet := make([]byte, 64)
	ret, out, err := coll.Programs["nesting"].Test(packet)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ret, len(out))
	// Output: 29 64
}

// A kfunc of twelve arguments is a Go function of twelve arguments.
func ExampleKfuncs_Register() {
	var kfuncs skep.Kfuncs
	err := kfuncs.Register("kfunc12", func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 {
		return a + b + c + d + e + f + g + h + i + j + k + l
	})
	if err != nil {
		log.Fatal(err)
	}

	var objs struct {
		Call *skep.Program `ebpf:"call_kfunc"`
	}
	spec, err := skep.LoadCollectionSpec("testdata/twelve.o")
	if err != nil {
		log.Fatal(err)
	}
	if err := skep.LoadAndAssign(spec, &objs, skep.Options{Kfuncs: &kfuncs}); err != nil {
		log.Fatal(err)
	}
	defer objs.Call.Close()

	ret, _, err := objs.Call.Test(make([]byte, 64))
	fmt.Println(ret, err)
	// Output: 78 <nil>
}

// Maps have cilium/ebpf's methods.
func ExampleMap() {
	var objs struct {
		Count      *skep.Program `ebpf:"count"`
		ByProtocol *skep.Map     `ebpf:"by_protocol"`
	}
	spec, err := skep.LoadCollectionSpec("testdata/counter.o")
	if err != nil {
		log.Fatal(err)
	}
	if err := skep.LoadAndAssign(spec, &objs); err != nil {
		log.Fatal(err)
	}
	defer objs.Count.Close()
	defer objs.ByProtocol.Close()

	packet := make([]byte, 60)
	packet[12], packet[14], packet[23] = 8, 0x45, 17 // IPv4, UDP
	for range 3 {
		if _, err := objs.Count.Run(&ebpf.RunOptions{Data: packet}); err != nil {
			log.Fatal(err)
		}
	}

	var protocol uint32
	var count struct{ Packets, Bytes uint64 }
	it := objs.ByProtocol.Iterate()
	for it.Next(&protocol, &count) {
		fmt.Printf("protocol %d: %d packets, %d bytes\n", protocol, count.Packets, count.Bytes)
	}
	if err := it.Err(); err != nil {
		log.Fatal(err)
	}
	// Output: protocol 17: 3 packets, 180 bytes
}

// A program that the verifier refuses is an error that says why and where.
func ExampleVerifierError() {
	_, err := skep.LoadCollection("testdata/counter.o")

	var rejected *skep.VerifierError
	if errors.As(err, &rejected) {
		fmt.Println(rejected.Program, rejected.Code)
		fmt.Printf("line %d: %s\n", rejected.Line, rejected.Source)
	}
	// The whole log: fmt.Printf("%+v\n", err)

	// Output:
	// unchecked out-of-bounds
	// line 70: return eth->proto == bpf_htons(0x0800) ? XDP_PASS : XDP_DROP;
}

// A hook is a place of the application's own where plug-ins run: here one that decides on orders, may change the price, and answers 0 or 1.
func ExampleNewHook() {
	type Order struct {
		Customer uint32
		Items    uint32
		Price    uint64 `bpf:"rw"`
	}
	hook, err := skep.NewHook(skep.HookSpec{Section: "shop/order", Context: Order{}, Returns: &skep.ReturnRange{Min: 0, Max: 1}})
	if err != nil {
		log.Fatal(err)
	}
	load := func(insns asm.Instructions) (*skep.Program, error) {
		return skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "plugin", SectionName: "shop/order", Instructions: insns},
			skep.Options{Hooks: []*skep.Hook{hook}})
	}
	half, err := load(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 8, asm.DWord),
		asm.RSh.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 8, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 1),
		asm.Return(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer half.Close()
	order := Order{Customer: 7, Items: 2, Price: 100}
	ret, err := half.Run(&ebpf.RunOptions{Context: &order, ContextOut: &order})
	fmt.Println(ret, order.Price, err)

	_, err = load(asm.Instructions{asm.StoreImm(asm.R1, 4, 99, asm.Word), asm.Mov.Imm(asm.R0, 1), asm.Return()})
	fmt.Println(err)
	// Output:
	// 1 50 <nil>
	// program plugin: invalid bpf_context access off=4 size=4 (insn 0)
}
