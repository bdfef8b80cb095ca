package progtype

// This file has the contexts that are a struct __sk_buff. The types differ in the fields they see and write
// (bpf_skb_is_valid_access and its callers, net/core/filter.c).

// Offsets in struct __sk_buff.
const (
	skbMark         = 8
	skbQueueMapping = 12
	skbPriority     = 32
	skbTCIndex      = 44
	skbCB           = 48
	skbTCClassid    = 72
	skbFamily       = 88 // the first of the fields of a socket
	skbRemoteIP4    = 92
	skbRemoteIP6    = 100
	skbLocalPort    = 136 // the last of them
	skbFlowKeys     = 144
	skbTstamp       = 152
	skbWireLen      = 160
	skbSk           = 168
	skbTstampType   = 180
	skbHwtstamp     = 184
)

var skbRows = []row{
	{off: skbCB, size: 20, read: upTo8, write: upTo8},
	{off: skbData, size: 4, read: 4, is: FieldPacket},
	{off: skbDataEnd, size: 4, read: 4, is: FieldPacketEnd},
	{off: skbDataMeta, size: 4, read: 4, is: FieldPacketMeta},
	{off: skbRemoteIP4, size: 8, read: 4},
	{off: skbRemoteIP6, size: 32, read: 4},
	{off: skbFlowKeys, size: 8},
	{off: skbTstamp, size: 8, read: 8, write: 8},
	{off: skbSk, size: 8, read: 8, is: FieldSockCommonOrNull},
	{off: skbTstampType, size: 1, read: 1, head: true},
	{off: skbTstampType, size: 4}, // padding
	{off: skbHwtstamp, size: 8, read: 8},
}

// Bytes that some types cannot see, and bytes that some may write.
var (
	skbSocketFields = span{skbFamily, skbLocalPort + 4 - skbFamily}
	skbMarkField    = span{skbMark, 4}
	skbPriorityWord = span{skbPriority, 4}
	skbTCIndexWord  = span{skbTCIndex, 4}
	skbControlBlock = span{skbCB, 20}
	skbClassid      = span{skbTCClassid, 4}
	skbMeta         = span{skbDataMeta, 4}
	skbTime         = span{skbTstamp, 8}
	skbWire         = span{skbWireLen, 4}
	skbHardwareTime = span{skbHwtstamp, 8}
	skbClock        = span{skbTstampType, 1}
)

func skbLayout(hidden, writable []span) layout {
	return layout{name: "__sk_buff", size: SkbSize, rows: skbRows, rest: row{read: upTo4, write: 4}, hidden: hidden, writable: writable}
}

var (
	socketFilter = skbLayout(
		[]span{skbClassid, {skbData, 8}, skbMeta, skbSocketFields, skbTime, skbWire, skbHardwareTime, skbClock},
		[]span{skbControlBlock})
	tc = skbLayout(
		[]span{skbSocketFields},
		[]span{skbMarkField, skbTCIndexWord, skbPriorityWord, skbClassid, skbControlBlock, skbTime, {skbQueueMapping, 4}})
	cgroupSKB = skbLayout(
		[]span{skbClassid, skbMeta, skbWire, skbClock},
		[]span{skbMarkField, skbPriorityWord, skbControlBlock, skbTime})
	lwt = skbLayout(
		[]span{skbClassid, skbSocketFields, skbMeta, skbTime, skbWire, skbHardwareTime, skbClock},
		[]span{skbMarkField, skbPriorityWord, skbControlBlock})
	skSKB = skbLayout(
		[]span{skbClassid, skbMeta, skbTime, skbWire, skbHardwareTime, skbClock, skbMarkField},
		[]span{skbTCIndexWord, skbPriorityWord})
)

// flowDissector programs see the packet and the keys they fill, and nothing else (flow_dissector_is_valid_access).
var flowDissector = layout{name: "__sk_buff", size: SkbSize, rows: []row{
	{off: skbData, size: 4, read: 4, is: FieldPacket},
	{off: skbDataEnd, size: 4, read: 4, is: FieldPacketEnd},
	{off: skbFlowKeys, size: 8, read: 8, is: FieldFlowKeys},
}}
