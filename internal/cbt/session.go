package cbt

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Session is a moment that can be read, from Open to Close.
type Session struct {
	// Seq is the checkpoint that begins at the moment.
	Seq int `json:"seq"`
	// From is the checkpoint since which changes are of interest; 0 for a full copy.
	From int `json:"from"`
	// Token makes the names of exports hard to guess: random, 16 hexadecimal digits
	// at least, and the same at each call for this session.
	Token string `json:"token"`
	// Force lets Close cut off readers that are connected.
	Force bool `json:"-"`
}

// Listen is where a machine's exports are served: zero is a unix socket in
// Target.Dir, else TCP, always with TLS.
type Listen struct {
	// Host is an address of this host; empty for a unix socket.
	Host string
	Port int
	// Certs is a directory with ca-cert.pem, server-cert.pem, server-key.pem, and
	// client-cert.pem and client-key.pem, with which we look at our own exports.
	// Readers have to show a certificate of the same authority.
	Certs string
}

// TCP says whether exports are served to other hosts.
func (l Listen) TCP() bool { return l.Host != "" }

func (l Listen) check() error {
	if l.TCP() && (l.Certs == "" || l.Port < 1 || l.Port > 65535) {
		return fmt.Errorf("exports over TCP need a port and the directory of TLS certificates")
	}
	return nil
}

// Check tells what is wrong with a session, in words for whoever asked for it.
func (s Session) Check() error {
	if s.Seq < 1 || s.From < 0 || s.From >= s.Seq {
		return fmt.Errorf("a session of checkpoint %d since %d", s.Seq, s.From)
	}
	if len(s.Token) < 16 || strings.Trim(s.Token, "0123456789abcdef") != "" {
		return fmt.Errorf("the token of a session has 16 hexadecimal digits or more")
	}
	return nil
}

// LeaveWait is how long Close waits for readers to go: one that hung up a moment ago
// may still be counted.
const LeaveWait = 500 * time.Millisecond

// ExportName is the name under which a session serves a disk.
func (s Session) ExportName(task string, disk int) string {
	return CheckpointName(task, s.Seq) + "-" + s.Token + "-" + strconv.Itoa(disk)
}

// Modes of a session.
const (
	ModeFull        = "full"
	ModeIncremental = "incremental"
)

// Mode says what a reader of a session has to copy.
func (s Session) Mode() string {
	if s.From == 0 {
		return ModeFull
	}
	return ModeIncremental
}

// An Export is one disk of a session, served over NBD, read-only.
type Export struct {
	Volume string `json:"volume"`
	Size   uint64 `json:"size"` // bytes
	// Network, Address and Name are where it is: "unix" and a path, or "tcp" and
	// host:port, with TLS.
	Network string `json:"network"`
	Address string `json:"address"`
	Name    string `json:"name"`
	// Context is the NBD meta context of which bit 0 marks what changed since
	// Session.From; empty for a full copy. All exports have base:allocation.
	Context string `json:"context,omitempty"`
	Mode    string `json:"mode"`
	// Bitmap is the name of the checkpoint: the From of a later session.
	Bitmap string `json:"bitmap,omitempty"`
	// Scratch is the image that keeps the moment, and ScratchNode its name in QEMU.
	// Empty where the disk itself is served.
	Scratch     string `json:"scratch,omitempty"`
	ScratchNode string `json:"scratchNode,omitempty"`
}

// URI is the export in the form that NBD tools take.
func (e Export) URI() string {
	if e.Network == "unix" {
		return "nbd+unix:///" + e.Name + "?socket=" + url.QueryEscape(e.Address)
	}
	return "nbds://" + e.Address + "/" + e.Name
}

// Address of a TCP listener.
func (l Listen) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// A Report is what Probe saw.
type Report struct {
	// Running: the machine's process answers. Otherwise images were read.
	Running bool
	// Broken says why the chain cannot be continued; nil if it can.
	Broken *ChainBroken
	// Persistent: all disks can keep checkpoints over a restart of the machine.
	Persistent bool
	// InUse: some image is open for writing.
	InUse bool
	// Session: jobs or exports of the task exist.
	Session bool
	Disks   []DiskReport
}

// A DiskReport is what Probe saw of a disk.
type DiskReport struct {
	Volume string
	Size   uint64 // bytes
	// Changed is how many bytes were written since the last checkpoint of the chain,
	// in whole blocks. Known false: it was not counted.
	Changed uint64
	Known   bool
	// Checkpoints of the task that the disk has, recorded or not, rising.
	Checkpoints []int
}

// Changed is the sum over the disks, and whether it is known.
func (r Report) Changed() (bytes uint64, known bool) {
	for _, d := range r.Disks {
		if !d.Known {
			return 0, false
		}
		bytes += d.Changed
	}
	return bytes, len(r.Disks) > 0
}
