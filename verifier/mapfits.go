package verifier

import (
	"slices"

	"github.com/cilium/ebpf"
)

// This file says which helpers go with which maps (check_map_func_compatibility of Linux 6.18): a map of a type listed in
// mapHelpers can be passed to the helpers listed there only, and a helper listed in helperMaps takes maps of those types only. Maps
// and helpers that are in neither go with all others.

// mapHelpers are the helpers that maps of a type can be passed to, by number (enum bpf_func_id).
var mapHelpers = map[ebpf.MapType][]int32{
	ebpf.ProgramArray:        {12},
	ebpf.PerfEventArray:      {22, 25, 55, 111, 121},
	ebpf.RingBuf:             {130, 131, 134, 198, 199, 200},
	ebpf.UserRingbuf:         {209},
	ebpf.StackTrace:          {27},
	ebpf.CGroupArray:         {33, 37},
	ebpf.CGroupStorage:       {81},
	ebpf.PerCPUCGroupStorage: {81},
	ebpf.DevMap:              {fnRedirectMap, fnMapLookup},
	ebpf.DevMapHash:          {fnRedirectMap, fnMapLookup},
	ebpf.CPUMap:              {fnRedirectMap},
	ebpf.XSKMap:              {fnRedirectMap, fnMapLookup},
	ebpf.ArrayOfMaps:         {fnMapLookup},
	ebpf.HashOfMaps:          {fnMapLookup},
	ebpf.SockMap:             {52, 53, 60, 82, fnMapLookup},
	ebpf.SockHash:            {72, 70, 71, 82, fnMapLookup},
	ebpf.ReusePortSockArray:  {82},
	ebpf.Queue:               {fnMapPeek, fnMapPop, fnMapPush},
	ebpf.Stack:               {fnMapPeek, fnMapPop, fnMapPush},
	ebpf.SkStorage:           {107, 108, 194},
	ebpf.InodeStorage:        {145, 146, 194},
	ebpf.TaskStorage:         {156, 157, 194},
	ebpf.CgroupStorage:       {210, 211, 194},
	ebpf.BloomFilter:         {fnMapPeek, fnMapPush},
}

var (
	eventMaps   = []ebpf.MapType{ebpf.PerfEventArray}
	ringMaps    = []ebpf.MapType{ebpf.RingBuf}
	queueMaps   = []ebpf.MapType{ebpf.Queue, ebpf.Stack}
	peekMaps    = []ebpf.MapType{ebpf.Queue, ebpf.Stack, ebpf.BloomFilter}
	groupMaps   = []ebpf.MapType{ebpf.CGroupArray}
	socketMap   = []ebpf.MapType{ebpf.SockMap}
	socketHash  = []ebpf.MapType{ebpf.SockHash}
	sockStorage = []ebpf.MapType{ebpf.SkStorage}
)

// helperMaps are the map types that a helper takes.
var helperMaps = map[int32][]ebpf.MapType{
	fnTailCall: {ebpf.ProgramArray},
	22:         eventMaps, 25: eventMaps, 55: eventMaps, 111: eventMaps, 121: eventMaps,
	130: ringMaps, 131: ringMaps, 134: ringMaps, 198: ringMaps, 199: ringMaps, 200: ringMaps,
	209: {ebpf.UserRingbuf},
	27:  {ebpf.StackTrace},
	33:  groupMaps, 37: groupMaps,
	fnRedirectMap: {ebpf.DevMap, ebpf.DevMapHash, ebpf.CPUMap, ebpf.XSKMap},
	52:            socketMap, 53: socketMap, 60: socketMap,
	72: socketHash, 70: socketHash, 71: socketHash,
	fnLocalStorage: {ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage},
	82:             {ebpf.ReusePortSockArray, ebpf.SockMap, ebpf.SockHash},
	fnMapPop:       queueMaps,
	fnMapPeek:      peekMaps, fnMapPush: peekMaps,
	fnMapLookupPercpu: {ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash},
	107:               sockStorage, 108: sockStorage,
	145: {ebpf.InodeStorage}, 146: {ebpf.InodeStorage},
	156: {ebpf.TaskStorage}, 157: {ebpf.TaskStorage},
	210: {ebpf.CgroupStorage}, 211: {ebpf.CgroupStorage},
}

// mapFits checks that map and helper go together.
func (e *env) mapFits(id int32, m *callMeta) error {
	if m.mapIdx < 0 {
		return nil
	}
	t := e.maps[m.mapIdx].Type
	fits := true
	if hs, ok := mapHelpers[t]; ok && !slices.Contains(hs, id) {
		fits = false
		if hasFullSockets(t) && (id == fnMapUpdate || id == fnMapDelete) {
			if fits = e.mayUpdateSockMap(id); !fits {
				err := e.reject(CodeCall, "cannot update sockmap in this context")
				return e.why(err, "cannot pass map_type %d into func bpf_%s#%d", t, m.proto.Name, id)
			}
		}
	}
	if ts, ok := helperMaps[id]; ok && !slices.Contains(ts, t) {
		fits = false
	}
	if fits && id == fnMapLookup && (t == ebpf.DevMap || t == ebpf.DevMapHash) {
		return e.unsupported("lookups in maps of type %v", t)
	}
	if !fits {
		return e.reject(CodeCall, "cannot pass map_type %d into func bpf_%s#%d", t, m.proto.Name, id)
	}
	return nil
}

// mayUpdateSockMap reports whether the program runs where no socket of a map can be locked (may_update_sockmap).
func (e *env) mayUpdateSockMap(id int32) bool {
	switch e.prog.Type {
	case ebpf.Tracing:
		return e.prog.AttachType == ebpf.AttachTraceIter
	case ebpf.SockOps:
		return id == fnMapDelete
	case ebpf.SocketFilter, ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP, ebpf.SkReuseport, ebpf.FlowDissector, ebpf.SkLookup:
		return true
	}
	return false
}
