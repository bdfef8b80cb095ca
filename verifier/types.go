package verifier

// regType says what a register holds: a base kind in the low byte and modifier bits above it (enum bpf_reg_type and
// enum bpf_type_flag of Linux).
type regType uint32

// The base kinds. Their order is the order of typeNames.
const (
	notInit regType = iota
	scalarValue
	ptrToCtx
	constPtrToMap
	ptrToMapValue
	ptrToStack
	ptrToPacketMeta
	ptrToPacket
	ptrToPacketEnd
	ptrToSocket
	ptrToSockCommon
	ptrToTCPSock
	ptrToXDPSock
	ptrToBTF
	ptrToMem
	ptrToFunc
	ptrToMapKey
	ptrToFlowKeys
	ptrToTPBuffer
	ptrToArena
	ptrToBuf
	constPtrToDynptr

	baseMask regType = 0xff
)

// Modifiers.
const (
	maybeNull regType = 1 << (8 + iota)
	rdonly
	trusted
	untrusted
	ringBuf  // memory of a ring buffer, to be submitted or discarded
	memRCU   // a structure that lives as long as the RCU read section lasts
	memAlloc // an object of a type of the program, made by bpf_obj_new
	nonOwn   // to an object in a list or tree, without the reference to it
	percpu   // to a variable of which every CPU has its own
	userMem  // an address in user space
)

var typeNames = [...]string{
	notInit:         "?",
	scalarValue:     "scalar",
	ptrToCtx:        "ctx",
	constPtrToMap:   "map_ptr",
	ptrToMapValue:   "map_value",
	ptrToStack:      "fp",
	ptrToPacketMeta: "pkt_meta",
	ptrToPacket:     "pkt",
	ptrToPacketEnd:  "pkt_end",
	ptrToSocket:     "sock",
	ptrToSockCommon: "sock_common",
	ptrToTCPSock:    "tcp_sock",
	ptrToXDPSock:    "xdp_sock",
	ptrToBTF:        "ptr_",
	ptrToMem:        "mem",
	ptrToFunc:       "func",
	ptrToMapKey:     "map_key",
	ptrToFlowKeys:   "flow_keys",
	ptrToTPBuffer:   "tp_buffer",
	ptrToArena:      "arena",
	ptrToBuf:        "buf",

	constPtrToDynptr: "dynptr_ptr",
}

func (t regType) base() regType { return t & baseMask }

func (t regType) mayBeNull() bool { return t&maybeNull != 0 }

// isPacket reports whether t points into the packet or its metadata (type_is_pkt_pointer).
func (t regType) isPacket() bool { return t == ptrToPacket || t == ptrToPacketMeta }

// isSock reports whether t is one of the socket pointers (type_is_sk_pointer).
func (t regType) isSock() bool {
	return t == ptrToSocket || t == ptrToSockCommon || t == ptrToTCPSock || t == ptrToXDPSock
}

// noAtomics reports whether atomics may not touch what t points to (atomic_ptr_type_ok).
func (t regType) noAtomics() bool {
	return t == ptrToCtx || t == ptrToFlowKeys || t.isPacket() || t.isSock()
}

// spillable reports whether a slot of the stack keeps t: others are bytes there (is_spillable_regtype).
func (t regType) spillable() bool { return t != ptrToTPBuffer && t != constPtrToDynptr }

// isMapPointer reports whether the log shows a map's figures for t.
func (t regType) isMapPointer() bool {
	b := t.base()
	return b == constPtrToMap || b == ptrToMapValue || b == ptrToMapKey
}

// typePrefixes are the modifiers that names show, in the order in which they show them.
var typePrefixes = [...]struct {
	flag regType
	text string
}{
	{rdonly, "rdonly_"}, {ringBuf, "ringbuf_"}, {userMem, "user_"}, {percpu, "percpu_"}, {memRCU, "rcu_"},
	{untrusted, "untrusted_"}, {trusted, "trusted_"},
}

// String is the kernel's reg_type_str.
func (t regType) String() string {
	prefix, postfix := "", ""
	for _, p := range typePrefixes {
		if t&p.flag != 0 {
			prefix += p.text
		}
	}
	if t&maybeNull != 0 {
		if t.base() == ptrToBTF {
			postfix = "or_null_"
		} else {
			postfix = "_or_null"
		}
	}
	return prefix + typeNames[t.base()] + postfix
}

// ptrKind is the kind of memory an access through t reaches.
func (t regType) ptrKind() PtrKind {
	if t.base() == ptrToMem && t&untrusted != 0 {
		return PtrBTFUntrusted
	}
	switch t.base() {
	case ptrToCtx:
		return PtrCtx
	case ptrToStack:
		return PtrStack
	case ptrToMapValue:
		return PtrMapValue
	case ptrToPacket, ptrToPacketMeta:
		return PtrPacket
	case ptrToMem, ptrToMapKey, ptrToSocket, ptrToSockCommon, ptrToTCPSock, ptrToXDPSock,
		ptrToFlowKeys, ptrToTPBuffer, ptrToBuf:
		return PtrMem
	case ptrToArena:
		return PtrArena
	case ptrToBTF:
		if t&untrusted != 0 {
			return PtrBTFUntrusted
		}
		return PtrBTF
	}
	return PtrNone
}
