package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
)

// WriteTables writes all that comes before the data, Start bytes. Memory is a few
// clusters, however large the disk is.
func (l *Layout) WriteTables(w io.Writer) error {
	for _, part := range []func(io.Writer) error{l.writeHeader, l.writeCountTable, l.writeCounts, l.writeFirst, l.writeSecond} {
		if err := part(w); err != nil {
			return fmt.Errorf("write tables of the image: %w", err)
		}
	}
	return nil
}

func (l *Layout) writeHeader(w io.Writer) error {
	h := make([]byte, writtenCluster)
	copy(h, "QFI\xfb")
	binary.BigEndian.PutUint32(h[4:], 3)
	binary.BigEndian.PutUint32(h[20:], writtenBits)
	binary.BigEndian.PutUint64(h[24:], entries(l.size, sectorSize)*sectorSize)
	binary.BigEndian.PutUint32(h[36:], uint32(entries(l.size, writtenReach))) //nolint:gosec // Plan bounds the size
	binary.BigEndian.PutUint64(h[40:], (1+l.countTable+l.counts)*writtenCluster)
	binary.BigEndian.PutUint64(h[48:], writtenCluster)
	binary.BigEndian.PutUint32(h[56:], uint32(l.countTable)) //nolint:gosec // Plan bounds the size
	binary.BigEndian.PutUint32(h[96:], 4)                    // a count has 2^4 bits
	binary.BigEndian.PutUint32(h[100:], versionThreeLeast)
	if l.backing == "" {
		_, err := w.Write(h)
		return err
	}
	extensions := binary.BigEndian.AppendUint32(h[:versionThreeLeast], extensionBackingFormat)
	extensions = binary.BigEndian.AppendUint32(extensions, uint32(len(l.format))) //nolint:gosec // a short name
	copy(h[len(extensions):], l.format)
	at := len(extensions) + (len(l.format)+7)&^7 + 8 // behind the extension that ends them
	binary.BigEndian.PutUint64(h[8:], uint64(at))
	binary.BigEndian.PutUint32(h[16:], uint32(len(l.backing))) //nolint:gosec // backingLimit
	copy(h[at:], l.backing)
	_, err := w.Write(h)
	return err
}

// words writes a table cluster by cluster, the rest of the last one zeros.
func words(w io.Writer, count uint64, word func(i uint64) uint64) error {
	cluster := make([]byte, writtenCluster)
	for at := uint64(0); at < count; {
		clear(cluster)
		for i := 0; i < writtenCluster && at < count; i += 8 {
			binary.BigEndian.PutUint64(cluster[i:], word(at))
			at++
		}
		if _, err := w.Write(cluster); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) writeCountTable(w io.Writer) error {
	return words(w, l.counts, func(i uint64) uint64 { return (1 + l.countTable + i) * writtenCluster })
}

// writeCounts says of each cluster that it is used once, four in a word.
func (l *Layout) writeCounts(w io.Writer) error {
	const four, each = 0x0001_0001_0001_0001, 16
	total := l.clusters()
	return words(w, l.counts*countsEach/4, func(i uint64) uint64 {
		switch left := total - min(4*i, total); {
		case left >= 4:
			return four
		default:
			return four &^ (1<<(64-each*left) - 1)
		}
	})
}

// writeFirst names a second table for each stretch that has a run.
func (l *Layout) writeFirst(w io.Writer) error {
	table, runs := 1+l.countTable+l.counts+l.first, l.runs
	return words(w, entries(l.size, writtenReach), func(i uint64) uint64 {
		for len(runs) > 0 && runs[0].Offset+runs[0].Length <= i*writtenReach {
			runs = runs[1:]
		}
		if len(runs) == 0 || runs[0].Offset >= (i+1)*writtenReach {
			return 0
		}
		table++
		return flagCopied | (table-1)*writtenCluster
	})
}

// writeSecond writes the second tables that writeFirst named.
func (l *Layout) writeSecond(w io.Writer) error {
	data := l.Start()
	cluster := make([]byte, writtenCluster)
	at, held := uint64(0), false
	for _, r := range l.runs {
		for k := r.Offset / writtenCluster; k < entries(r.Offset+r.Length, writtenCluster); k++ {
			if table := k / (writtenReach / writtenCluster); !held || table != at {
				if err := writeHeld(w, cluster, held); err != nil {
					return err
				}
				at, held = table, true
			}
			entry := uint64(flagZero)
			if r.Kind == Data {
				entry = flagCopied | data
				data += writtenCluster
			}
			binary.BigEndian.PutUint64(cluster[k%(writtenReach/writtenCluster)*8:], entry)
		}
	}
	return writeHeld(w, cluster, held)
}

func writeHeld(w io.Writer, cluster []byte, held bool) error {
	if !held {
		return nil
	}
	_, err := w.Write(cluster)
	clear(cluster)
	return err
}
