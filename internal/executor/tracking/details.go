package tracking

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// readDetails asks each export of a session what is to be copied. They show the
// moment; what the machine has allocated now may be less.
func readDetails(ctx context.Context, l cbt.Listen, exports []cbt.Export) (cbt.Details, error) {
	details := make(cbt.Details, 0, len(exports))
	for _, e := range exports {
		b := newBitmap()
		v := cbt.VolumeDetail{Volume: e.Volume}
		err := walk(ctx, l, e, 0, func(x cbt.Extent) error {
			v.Changed += x.Length
			return b.add(x)
		})
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", e.Volume, err)
		}
		if v.Bitmap, err = b.text(); err != nil {
			return nil, err
		}
		details = append(details, v)
	}
	return details, nil
}

// walk calls each, by rising offset, with what an export marks as changed, or, where
// it is a full one, as allocated.
func walk(ctx context.Context, l cbt.Listen, e cbt.Export, from uint64, each func(cbt.Extent) error) error {
	name := e.Context
	if name == "" {
		name = nbd.Allocation
	}
	client, err := dial(ctx, l, e, name)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // all was read, or the error says what was not
	from = min(from, client.Size)
	join := cbt.Joiner{Each: each}
	err = client.Status(ctx, name, from, client.Size-from, func(x nbd.Extent) error {
		marked := x.Flags&nbd.Dirty != 0
		if name == nbd.Allocation {
			marked = x.Flags&nbd.AllocationZero == 0
		}
		if !marked {
			return nil
		}
		return join.Add(cbt.Extent{Offset: x.Offset, Length: x.Length})
	})
	if err != nil {
		return err
	}
	return join.Flush()
}

// dial connects to an export as a reader does.
func dial(ctx context.Context, l cbt.Listen, e cbt.Export, contexts ...string) (*nbd.Client, error) {
	options := nbd.Options{Contexts: contexts}
	if l.TCP() {
		config, err := nbd.ClientTLS(l.Certs, l.Host)
		if err != nil {
			return nil, err
		}
		options.TLS = config
	}
	return nbd.Dial(ctx, e.Network, e.Address, e.Name, options)
}

// bitmap packs extents as ZStack hands them to backup products: base64 of zlib of a
// JSON object of start to length.
type bitmap struct {
	packed bytes.Buffer
	zip    *zlib.Writer
	first  bool
	over   bool // it got longer than cbt.MaxBitmap
}

// longestRun is the most bytes that a reader asks for at once over NBD; longer extents
// are split.
const longestRun = 32 << 20

// packedMost is how many bytes become cbt.MaxBitmap bytes of base64.
const packedMost = cbt.MaxBitmap / 4 * 3

func newBitmap() *bitmap {
	b := &bitmap{first: true}
	b.zip = zlib.NewWriter(&b.packed)
	return b
}

func (b *bitmap) add(e cbt.Extent) error {
	var line []byte
	for at := e.Offset; at < e.End() && !b.over; at += longestRun {
		line = append(line[:0], ',')
		if b.first {
			line[0], b.first = '{', false
		}
		line = append(strconv.AppendUint(append(line, '"'), at, 10), `":`...)
		line = strconv.AppendUint(line, min(longestRun, e.End()-at), 10)
		if _, err := b.zip.Write(line); err != nil {
			return fmt.Errorf("pack bitmap: %w", err)
		}
		b.over = b.packed.Len() > packedMost
	}
	return nil
}

// text is the bitmap, or nothing if it is too long.
func (b *bitmap) text() (string, error) {
	rest := "}"
	if b.first {
		rest = "{}"
	}
	if _, err := b.zip.Write([]byte(rest)); err != nil {
		return "", fmt.Errorf("pack bitmap: %w", err)
	}
	if err := b.zip.Close(); err != nil {
		return "", fmt.Errorf("pack bitmap: %w", err)
	}
	if b.over || b.packed.Len() > packedMost {
		return "", nil
	}
	return base64.StdEncoding.EncodeToString(b.packed.Bytes()), nil
}

// encode writes an answer. So that it is not cut, the largest bitmaps are left out
// until it fits.
func encode(a cbt.Answer) (string, error) { return encodeWithin(a, MaxOutput) }

func encodeWithin(a cbt.Answer, most int) (string, error) {
	for {
		text, err := a.Encode()
		if err != nil {
			return "", err
		}
		if len(text) <= most {
			return text, nil
		}
		details, _ := a.Detail.(cbt.Details)
		if !dropLargest(details) {
			return "", fmt.Errorf("%w: the answer has %d bytes, %d can be kept: forget some checkpoints", cbt.ErrUnsupported, len(text), most)
		}
	}
}

func dropLargest(details cbt.Details) bool {
	largest := -1
	for i := range details {
		if len(details[i].Bitmap) > 0 && (largest < 0 || len(details[i].Bitmap) > len(details[largest].Bitmap)) {
			largest = i
		}
	}
	if largest < 0 {
		return false
	}
	details[largest].Bitmap = ""
	return true
}
