package nbd

import "fmt"

// Numbers of the protocol, from its public specification. All are big-endian on the
// wire.
const (
	magicHello      = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454F5054 // "IHAVEOPT"
	magicOptReply   = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options of the handshake.
const (
	optAbort      = 2
	optStartTLS   = 5
	optInfo       = 6
	optGo         = 7
	optStructured = 8
	optListMeta   = 9
	optSetMeta    = 10
)

// Replies to options; errors have the highest bit set.
const (
	repAck           = 1
	repInfo          = 3
	repMeta          = 4
	repError         = 1 << 31
	repErrUnsup      = repError + 1
	repErrPolicy     = repError + 2
	repErrInvalid    = repError + 3
	repErrTLSNeeded  = repError + 5
	repErrUnknown    = repError + 6
	infoExport       = 0
	infoBlockSize    = 3
	optionDataLimit  = 1 << 16
	optionReplyLimit = 1 << 20
)

// Commands of the transmission phase.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	cmdFlagReqOne = 1 << 3
)

// Chunks of a structured reply.
const (
	chunkNone      = 0
	chunkData      = 1
	chunkHole      = 2
	chunkStatus    = 5
	chunkError     = 1<<15 + 1
	chunkErrorBit  = 1 << 15
	chunkFlagDone  = 1
	chunkLimit     = 64 << 20
	requestMax     = 32 << 20    // bytes of data in one request, which every server takes
	statusMax      = 0xffff_0000 // bytes asked for in one block status: the wire has 32 bits
	extentSize     = 8
	statusCapacity = 1 << 14 // extents in one reply of ours
)

// Transmission flags of an export.
const (
	FlagHasFlags = 1 << 0
	FlagReadOnly = 1 << 1
)

// Bits of an extent of base:allocation. For qemu:dirty-bitmap contexts bit 0 says
// that the extent was written.
const (
	Allocation     = "base:allocation"
	AllocationHole = 1 << 0
	AllocationZero = 1 << 1
	Dirty          = 1 << 0
)

// Error numbers of the protocol.
const (
	errnoPerm    = 1
	errnoIO      = 5
	errnoInvalid = 22
)

// An Extent is a stretch of an export, in bytes, with the flags of one context.
type Extent struct {
	Offset, Length uint64
	Flags          uint32
}

// An OptionError is a server's refusal during the handshake.
type OptionError struct {
	Option, Reply uint32
	Text          string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("nbd: option %d is refused (%#x): %s", e.Option, e.Reply, e.Text)
}

// An IOError is a server's refusal of a request, with an error number of Linux.
type IOError struct {
	Number uint32
	Text   string
}

func (e *IOError) Error() string { return fmt.Sprintf("nbd: error %d %s", e.Number, e.Text) }
