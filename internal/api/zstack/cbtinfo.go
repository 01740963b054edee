package zstack

import (
	"net"
	"net/url"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// A cbtInfo tells a backup product where a volume can be read, and what of it has
// changed: ZStack's VolumeCbtBackupInfo. Its fields are texts, the port too.
type cbtInfo struct {
	Volume cbtVolume `json:"volume"`
	Mode   string    `json:"mode"` // full or incremental
	// BitmapName is the checkpoint that began at the moment exported.
	BitmapName nullable `json:"bitmapName"`
	// BitmapBase64 is base64 of zlib of a JSON object of start to length in bytes.
	// Null if it would be too long: metadata says where to ask then.
	BitmapBase64    nullable `json:"bitmapBase64"`
	Target          nullable `json:"target"` // the image that keeps the moment
	ScratchNodeName nullable `json:"scratchNodeName"`
	NBDServer       string   `json:"nbdServer"` // an address, or unix: and the path of a socket
	NBDPort         string   `json:"nbdPort"`   // "0" with a socket
	Metadata        string   `json:"metadata"`  // cbtMetadata as JSON
}

// A cbtVolume is what is known of ZStack's VolumeTO.
type cbtVolume struct {
	VolumeUUID  string   `json:"volumeUuid"`
	InstallPath nullable `json:"installPath"`
	DeviceID    int      `json:"deviceId"` // its place among the machine's volumes
	DeviceType  string   `json:"deviceType"`
	Format      nullable `json:"format"`
}

// cbtMetadata says all that ZStack's fields have no place for.
type cbtMetadata struct {
	Machine string `json:"vmInstanceUuid"`
	URI     string `json:"uri"` // as NBD tools take it
	Export  string `json:"exportName"`
	TLS     bool   `json:"tls"`
	Size    uint64 `json:"size"` // bytes
	// Context is the meta context whose bit 0 marks what has changed; null for a full
	// copy, for which base:allocation tells what there is.
	Context nullable `json:"context"`
	// Since is the checkpoint that changes are counted from; null for a full copy.
	Since   nullable `json:"sinceBitmapName"`
	Changed *uint64  `json:"changedBytes,omitempty"` // bytes to read, if known
	// Fuzzy: the volume was written while it was read, so it is not one moment.
	Fuzzy bool `json:"fuzzy,omitempty"`
	// Broken says why this copy is full although an incremental one was asked for.
	Broken nullable `json:"chainBroken,omitempty"`
	// Changes is where the changed extents are given page by page, in the native API.
	Changes string `json:"changes,omitempty"`
}

// cbtInfos tells of all volumes of the open sessions of a task; details are those
// of the run that opened them, nil if they are not known any more.
func cbtInfos(t core.CBTTask, details []cbt.Details) []any {
	infos := []any{}
	for i, machine := range t.Machines {
		if i >= len(t.Records) || t.Records[i].Open == nil {
			continue
		}
		var known cbt.Details
		if i < len(details) {
			known = details[i]
		}
		for n, e := range t.Records[i].Open.Exports {
			infos = append(infos, openInfo(t, exported{machine, t.Records[i], n, e}, known))
		}
	}
	return infos
}

// restoreInfos tells where volumes can be written, in the order that they were
// asked for.
func restoreInfos(t core.CBTTask, machine string, volumes []string) []any {
	infos := []any{}
	i := t.Machine(machine)
	if i < 0 || i >= len(t.Records) {
		return infos
	}
	for _, volume := range volumes {
		for n, e := range t.Records[i].Restore {
			if e.Volume != volume {
				continue
			}
			info, m := exported{machine, t.Records[i], n, e}.info()
			info.Metadata = string(encode(m))
			infos = append(infos, info)
		}
	}
	return infos
}

// An exported volume, and what it belongs to.
type exported struct {
	machine string
	record  cbt.Record
	place   int
	cbt.Export
}

func openInfo(t core.CBTTask, x exported, details cbt.Details) cbtInfo {
	open := x.record.Open
	info, m := x.info()
	m.Since, m.Fuzzy = nullable(bitmapOf(t.UUID, open.From)), open.Fuzzy
	if x.Mode == cbt.ModeFull && t.Since != "" {
		m.Broken = nullable(x.record.Broken)
	}
	for _, d := range details {
		if d.Volume == x.Export.Volume {
			info.BitmapBase64, m.Changed = nullable(d.Bitmap), &d.Changed
		}
	}
	if info.BitmapBase64 == "" {
		m.Changes = changesPath(t.UUID, x.Export.Volume, bitmapOf(t.UUID, open.From), bitmapOf(t.UUID, open.Seq))
	}
	info.Metadata = string(encode(m))
	return info
}

// info is what every exported volume has.
func (x exported) info() (cbtInfo, cbtMetadata) {
	server, port := x.served()
	info := cbtInfo{
		Volume: x.volume(), Mode: x.Mode, BitmapName: nullable(x.Bitmap), Target: nullable(x.Scratch), ScratchNodeName: nullable(x.ScratchNode),
		NBDServer: server, NBDPort: port,
	}
	m := cbtMetadata{Machine: x.machine, URI: x.URI(), Export: x.Name, TLS: x.Network == "tcp", Size: x.Size, Context: nullable(x.Context)}
	return info, m
}

// served is where the export is served, as ZStack has it.
func (x exported) served() (server, port string) {
	if x.Network == "unix" {
		return "unix:" + x.Address, "0"
	}
	host, port, err := net.SplitHostPort(x.Address)
	if err != nil {
		return x.Address, "0"
	}
	return host, port
}

func (x exported) volume() cbtVolume {
	v := cbtVolume{VolumeUUID: x.Export.Volume, DeviceID: x.place, DeviceType: "file"}
	for i, have := range x.record.Volumes {
		if have.UUID == v.VolumeUUID {
			v.DeviceID, v.InstallPath, v.Format = i, nullable(have.Path), nullable(have.Format)
		}
	}
	return v
}

// bitmapOf names a checkpoint; "" for none.
func bitmapOf(task string, seq int) string {
	if seq == 0 {
		return ""
	}
	return cbt.CheckpointName(task, seq)
}

// changesPath is where the native API tells what changed of a volume between two
// checkpoints; without from, what is allocated.
func changesPath(task, volume, from, to string) string {
	q := url.Values{"volume": {volume}}
	if from != "" {
		q.Set("from", from)
		q.Set("to", to)
	}
	return "/api/v1/cbt-tasks/" + task + "/changes?" + q.Encode()
}
