package rt

// A map's handle is the address of its header, which maps make and machine code may read.
const (
	HeaderID      = 0  // u64: the map's number
	HeaderValues  = 8  // u64: of an array, the address of value 0
	HeaderEntries = 16 // u64: of an array, the number of values
)
