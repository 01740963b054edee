package scan

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// benchSize of the image, in bytes: 4 GiB, or what CBT_BENCH_MIB says.
func benchSize() int64 {
	mib := int64(4 << 10)
	_, _ = fmt.Sscan(os.Getenv("CBT_BENCH_MIB"), &mib) // it stays as it is
	return mib << 20
}

// image makes a raw file full of data, or, sparse, with 1,600 blocks of it.
func image(b *testing.B, full bool) string {
	b.Helper()
	path := filepath.Join(cbttest.Dir(b), "disk")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	size, data := benchSize(), make([]byte, 1<<20)
	rand.Read(data)
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	if full {
		for at := int64(0); at < size; at += int64(len(data)) {
			data[at>>20&0xfffff]++
			if _, err := f.WriteAt(data, at); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		for i := range int64(1600) {
			if _, err := f.WriteAt(data[:block], i*(size/1600)&^(block-1)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return path
}

// cold drops a file from the page cache.
func cold(b *testing.B, path string) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	forget(f, 0, uint64(benchSize()))
}

// take scans an image once.
func take(b *testing.B, path string, workers int) {
	b.Helper()
	source, err := openSource(cbt.Roots{filepath.Dir(path)}, cbt.Disk{Path: path, Format: cbt.FormatRaw})
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	if _, err := Take(b.Context(), source, Key{}, block, workers, nil); err != nil {
		b.Fatal(err)
	}
}

// A full scan, from the disk and from the page cache, and the disk's own limit.
func BenchmarkScan(b *testing.B) {
	path := image(b, true)
	for _, workers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("cold/workers=%d", workers), func(b *testing.B) {
			b.SetBytes(benchSize())
			for b.Loop() {
				b.StopTimer()
				cold(b, path)
				b.StartTimer()
				take(b, path, workers)
			}
		})
	}
	b.Run("cached/workers=4", func(b *testing.B) {
		b.SetBytes(benchSize())
		take(b, path, 4)
		for b.Loop() {
			take(b, path, 4)
		}
	})
	b.Run("dd-direct", func(b *testing.B) {
		b.SetBytes(benchSize())
		for b.Loop() {
			if err := exec.Command("dd", "if="+path, "of=/dev/null", "bs=4M", "iflag=direct").Run(); err != nil {
				b.Skip("the file system has no direct reads: ", err)
			}
		}
	})
}

// A disk of which 1,600 blocks hold data.
func BenchmarkScanSparse(b *testing.B) {
	path := image(b, false)
	for b.Loop() {
		take(b, path, DefaultWorkers)
	}
}

// Two manifests of 4 GiB, compared.
func BenchmarkCompare(b *testing.B) {
	before, now := newManifest(block, 4<<30), newManifest(block, 4<<30)
	for i := 0; i < len(now.Digests); i += 41 {
		now.Digests[i][0] = 1
	}
	for b.Loop() {
		if n := len(Compare(before, now)); n < 1500 {
			b.Fatal(n)
		}
	}
}
