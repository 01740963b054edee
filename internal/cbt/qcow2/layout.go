package qcow2

import "fmt"

// A Layout is the plan of a new image, made before any of its data is there. The file
// is then written, and can be summed and checked, from its beginning to its end:
//
//	header │ reference counts │ first table │ second tables │ data of the runs, in order
//
// Clusters have 64 KiB. What no run covers is left to the backing image, or is zeros
// where there is none.
type Layout struct {
	size         uint64
	backing      string
	format       string
	runs         []Run // of whole clusters, rising, neighbors joined
	counts       uint64
	countTable   uint64
	first        uint64 // clusters of the first table
	second, data uint64 // how many there are
}

// Of images that are written.
const (
	writtenBits    = 16
	writtenCluster = 1 << writtenBits
	writtenReach   = 1 << (2*writtenBits - 3) // of the disk, by one second table
	countsEach     = writtenCluster / 2       // clusters that one cluster of counts has
	flagCopied     = 1 << 63
)

// Plan lays out an image of a disk of size bytes. Runs rise and do not overlap, are Data
// or Zero, and begin and end anywhere: Runs tells what they became in whole clusters.
// backing is the name of the image behind this one, as the header has it, and format its
// format; both empty where there is none.
func Plan(size uint64, runs []Run, backing, format string) (*Layout, error) {
	if len(backing) > backingLimit || (backing == "") != (format == "") {
		return nil, fmt.Errorf("qcow2: backing file %q of format %q", backing, format)
	}
	if entries(size, writtenReach)*8 > l1Limit {
		return nil, fmt.Errorf("qcow2: a disk of %d bytes is too large", size)
	}
	l := &Layout{size: size, backing: backing, format: format}
	end := uint64(0)
	for _, r := range runs {
		if r.Length == 0 {
			continue
		}
		if r.Offset < end || r.Length > size || r.Offset > size-r.Length || r.Kind != Data && r.Kind != Zero {
			return nil, fmt.Errorf("qcow2: a run of %d bytes at %d behind byte %d", r.Length, r.Offset, end)
		}
		end = r.Offset + r.Length
		l.add(r)
	}
	l.count()
	return l, nil
}

// add takes a run in whole clusters. One that is zeros in part alone is data.
func (l *Layout) add(r Run) {
	from, to := r.Offset/writtenCluster, entries(r.Offset+r.Length, writtenCluster)
	if r.Kind == Data {
		l.join(Data, from, to)
		return
	}
	whole, tail := entries(r.Offset, writtenCluster), (r.Offset+r.Length)/writtenCluster
	if r.Offset+r.Length == l.size {
		tail = to
	}
	if whole >= tail {
		l.join(Data, from, to)
		return
	}
	l.join(Data, from, whole)
	if l.backing != "" {
		l.join(Zero, whole, tail)
	}
	l.join(Data, tail, to)
}

// join appends clusters. The first may be the last of the run before, which is data.
func (l *Layout) join(kind Kind, from, to uint64) {
	last := len(l.runs) - 1
	if last >= 0 {
		from = max(from, entries(l.runs[last].Offset+l.runs[last].Length, writtenCluster))
	}
	if from >= to {
		return
	}
	offset := from * writtenCluster
	length := min(to*writtenCluster, l.size) - offset
	if last >= 0 && l.runs[last].Kind == kind && l.runs[last].Offset+l.runs[last].Length == offset {
		l.runs[last].Length += length
		return
	}
	l.runs = append(l.runs, Run{Offset: offset, Length: length, Kind: kind})
}

// count finds how many clusters each part takes. The counts count themselves too.
func (l *Layout) count() {
	l.first = max(entries(entries(l.size, writtenReach)*8, writtenCluster), 1)
	next := uint64(0) // range that has no second table yet
	for _, r := range l.runs {
		from, to := r.Offset/writtenReach, entries(r.Offset+r.Length, writtenReach)
		l.second += to - max(from, min(next, to))
		next = max(next, to)
		if r.Kind == Data {
			l.data += entries(r.Length, writtenCluster)
		}
	}
	for {
		total := l.clusters()
		counts := entries(total, countsEach)
		table := entries(counts*8, writtenCluster)
		if counts == l.counts && table == l.countTable {
			return
		}
		l.counts, l.countTable = counts, table
	}
}

func (l *Layout) clusters() uint64 {
	return 1 + l.countTable + l.counts + l.first + l.second + l.data
}

// Runs are the disk's stretches that the image has, in whole clusters; the disk's last
// one may be shorter. The data of those that are Data follows each other in the file.
func (l *Layout) Runs() []Run { return l.runs }

// Start is where in the file the data begins.
func (l *Layout) Start() uint64 { return (l.clusters() - l.data) * writtenCluster }

// Length of the file in bytes.
func (l *Layout) Length() uint64 { return l.clusters() * writtenCluster }

// entries is how many pieces a length has.
func entries(length, each uint64) uint64 { return (length + each - 1) / each }
