package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// CBT says of which machines and volumes of this host changed blocks are tracked. With
// none, the worker does not have the job type for it.
type CBT struct {
	Roots    []string     `yaml:"roots" help:"directories that images, monitor sockets and certificates of worker.cbt may lie below"`
	Dir      string       `yaml:"dir" default:"/var/lib/takt/cbt" help:"where each machine gets a directory for sockets, scratch images and digests; a short path, on a disk with room for what guests overwrite during a backup"`
	Backups  string       `yaml:"backups" help:"directory that backups into files are kept in; empty means that there are none"`
	Listen   CBTListen    `yaml:"listen"`
	Machines []CBTMachine `yaml:"machines" help:"machines, as YAML: [{uuid: …, qmp: /run/vm1.qmp, disks: [{volume: …, path: /vm/1.qcow2, format: qcow2}]}]"`
	Volumes  []CBTVolume  `yaml:"volumes" help:"volumes that belong to no machine, as YAML: [{volume: …, path: /dev/vg/lv, format: raw}]"`
}

// CBTListen says where exports are served: on unix sockets, or over TCP with TLS.
type CBTListen struct {
	Host     string `yaml:"host" help:"address on which exports are served to other hosts, with TLS; empty means unix sockets"`
	PortFrom int    `yaml:"portFrom" help:"port of the first machine, the next has the next; a machine may name its own"`
	Certs    string `yaml:"certs" help:"directory with ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem and client-key.pem"`
}

// A CBTMachine is a virtual machine of this host.
type CBTMachine struct {
	UUID string `yaml:"uuid"`
	Name string `yaml:"name,omitempty"` // for people
	// QMP is the unix socket of a monitor that nobody else uses; empty where there is
	// none, which leaves the scan driver.
	QMP string `yaml:"qmp,omitempty"`
	// Driver is auto, qemu or scan, for tasks that leave the choice to us.
	Driver string      `yaml:"driver,omitempty"`
	Disks  []CBTVolume `yaml:"disks"`
	// Port of its exports, where they are served over TCP.
	Port int `yaml:"port,omitempty"`
	// Fuzzy lets the scan driver read raw disks that are being written.
	Fuzzy bool `yaml:"fuzzy,omitempty"`
}

// A CBTVolume is an image or a block device.
type CBTVolume struct {
	Volume string `yaml:"volume"` // uuid
	Path   string `yaml:"path"`
	Format string `yaml:"format"` // raw or qcow2; never guessed from the data
}

// Configured reports whether there is anything to track.
func (s CBT) Configured() bool { return len(s.Machines)+len(s.Volumes) > 0 }

// cbtDirMost is how long worker.cbt.dir may be: the name of a socket is 107 bytes at
// most, and "/<uuid>/restore.qmp" comes behind.
const cbtDirMost = 60

func (c *checker) cbt(s CBT) {
	for _, root := range s.Roots {
		c.that(filepath.IsAbs(root), "worker.cbt.roots", root, "want absolute paths")
	}
	if !s.Configured() {
		return
	}
	c.that(len(s.Roots) > 0, "worker.cbt.roots", "", "it has to be set together with worker.cbt.machines and worker.cbt.volumes")
	c.that(filepath.IsAbs(s.Dir) && len(s.Dir) <= cbtDirMost, "worker.cbt.dir", s.Dir,
		fmt.Sprintf("want an absolute path of %d bytes at most, since names of sockets are short", cbtDirMost))
	c.that(s.Backups == "" || filepath.IsAbs(s.Backups), "worker.cbt.backups", s.Backups, "want an absolute path")
	c.cbtListen(s)
	seen := map[string]bool{}
	for _, m := range s.Machines {
		c.cbtMachine(s, m, seen)
	}
	for _, v := range s.Volumes {
		c.cbtVolume(s, "worker.cbt.volumes", v, seen)
	}
}

func (c *checker) cbtListen(s CBT) {
	const last = 65_535
	if s.Listen.Host == "" {
		return
	}
	c.that(s.cbtBelow(s.Listen.Certs), "worker.cbt.listen.certs", s.Listen.Certs, "want a directory below worker.cbt.roots: exports over TCP have TLS")
	for _, m := range s.Machines {
		c.that(m.Port > 0 && m.Port <= last || m.Port == 0 && s.Listen.PortFrom > 0, "worker.cbt.listen.portFrom", m.UUID, "want a port of its own for each machine")
	}
	c.between("worker.cbt.listen.portFrom", s.Listen.PortFrom, 0, last-len(s.Machines)-len(s.Volumes))
}

func (c *checker) cbtMachine(s CBT, m CBTMachine, seen map[string]bool) {
	const at = "worker.cbt.machines"
	c.cbtUUID(at, m.UUID, seen)
	c.that(len(m.Disks) > 0, at, m.UUID, "want a machine with disks")
	c.that(m.QMP == "" || s.cbtBelow(m.QMP), at, m.QMP, "want the absolute path of a socket below worker.cbt.roots")
	c.that(m.QMP != "" || m.Driver != "qemu", at, m.UUID, "want qmp for the driver qemu")
	if m.Driver != "" {
		c.oneOf(at, m.Driver, "auto", "qemu", "scan")
	}
	for _, disk := range m.Disks {
		c.cbtVolume(s, at, disk, seen)
	}
}

func (c *checker) cbtVolume(s CBT, at string, v CBTVolume, seen map[string]bool) {
	c.cbtUUID(at, v.Volume, seen)
	c.that(s.cbtBelow(v.Path), at, v.Path, "want the absolute path of an image below worker.cbt.roots")
	c.oneOf(at, v.Format, "raw", "qcow2")
}

// cbtUUID notes a uuid, which stands once.
func (c *checker) cbtUUID(at, uuid string, seen map[string]bool) {
	plain := PlainUUID(uuid)
	c.that(uuidPattern.MatchString(uuid), at, uuid, "want uuids")
	c.that(!seen[plain], at, uuid, "it stands twice")
	seen[plain] = true
}

// cbtBelow says whether a path is below a root as it is written. What links lead to is
// looked at when it is opened.
func (s CBT) cbtBelow(path string) bool {
	return slices.ContainsFunc(s.Roots, func(root string) bool {
		return strings.HasPrefix(filepath.Clean(path), strings.TrimSuffix(filepath.Clean(root), "/")+"/")
	})
}

// PlainUUID is a uuid as records have it: lower-case and without dashes.
func PlainUUID(uuid string) string { return strings.ToLower(strings.ReplaceAll(uuid, "-", "")) }
