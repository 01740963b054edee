package tracking

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
)

func pack(t *testing.T, extents ...cbt.Extent) string {
	t.Helper()
	b := newBitmap()
	for _, e := range extents {
		if err := b.add(e); err != nil {
			t.Fatal(err)
		}
	}
	text, err := b.text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBitmapAsZStackHasIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		extents []cbt.Extent
		want    []cbt.PageExtent
	}{
		{"nothing", nil, nil},
		{"two", []cbt.Extent{{Offset: 0, Length: 1}, {Offset: 512, Length: 512}}, []cbt.PageExtent{{Offset: 0, Length: 1}, {Offset: 512, Length: 512}}},
		{"longer than a read", []cbt.Extent{{Offset: 100, Length: 70 << 20}}, []cbt.PageExtent{
			{Offset: 100, Length: 32 << 20}, {Offset: 100 + 32<<20, Length: 32 << 20}, {Offset: 100 + 64<<20, Length: 6 << 20},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, unpack(t, pack(t, c.extents...))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLongBitmapIsLeftOut(t *testing.T) {
	t.Parallel()
	var extents []cbt.Extent
	random := uint64(1)
	for at := uint64(0); len(extents) < 200_000; at += block * (2 + random>>60) {
		random = random*6364136223846793005 + 1442695040888963407
		extents = append(extents, cbt.Extent{Offset: at, Length: block})
	}
	if text := pack(t, extents...); text != "" {
		t.Errorf("got a bitmap of %d bytes, want none", len(text))
	}
	text := pack(t, extents[:20_000]...)
	if len(text) == 0 || len(text) > cbt.MaxBitmap {
		t.Errorf("got a bitmap of %d bytes, want one of %d at most", len(text), cbt.MaxBitmap)
	}
	if got := unpack(t, text); len(got) != 20_000 {
		t.Errorf("it has %d extents, want 20000", len(got))
	}
}

func TestAnswerFits(t *testing.T) {
	t.Parallel()
	answer := func() cbt.Answer {
		return cbt.Answer{Detail: cbt.Details{
			{Volume: "small", Bitmap: strings.Repeat("s", 100)}, {Volume: "large", Bitmap: strings.Repeat("l", 300)}, {Volume: "middle", Bitmap: strings.Repeat("m", 200)},
		}}
	}
	for _, c := range []struct {
		most int
		want string // the volumes that keep their bitmaps
	}{{1000, "slm"}, {600, "sm"}, {400, "s"}, {200, ""}} {
		text, err := encodeWithin(answer(), c.most)
		if err != nil {
			t.Fatalf("within %d: got error: %v", c.most, err)
		}
		for _, letter := range "slm" {
			if has, want := strings.Contains(text, strings.Repeat(string(letter), 100)), strings.ContainsRune(c.want, letter); has != want {
				t.Errorf("within %d bytes the bitmap of %c is there: %v, want %v", c.most, letter, has, want)
			}
		}
		if len(text) > c.most {
			t.Errorf("got %d bytes, want %d at most", len(text), c.most)
		}
	}
	if _, err := encodeWithin(answer(), 50); err == nil {
		t.Error("an answer that does not fit is given")
	}
}
