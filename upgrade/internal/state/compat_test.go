package state

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/midair-go/midair/internal/kept"
)

// encodeBefore and decodeBefore are the code of the builds that had all state in memory at once.
func encodeBefore(entries []entry) []byte {
	b := format.Begin()
	b = append(b, byte(len(entries)>>24), byte(len(entries)>>16), byte(len(entries)>>8), byte(len(entries)))
	for _, e := range entries {
		b = kept.Append64(kept.Append32(b, e.name), e.data)
	}
	return format.Seal(b)
}

func decodeBefore(b []byte) (map[string][]byte, error) {
	r := format.Open(b)
	values := map[string][]byte{}
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		name := string(r.Bytes32())
		values[name] = r.Bytes64()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if r.Left() > 0 {
		return nil, r.Damaged(errRest)
	}
	return values, nil
}

// sizes are sizes of values around the number of bytes that are written at once.
var sizes = []int{0, 1, 4095, 4096, 4097, partSize - 1, partSize, partSize + 1, 3*partSize + 17}

// A build from before reads what this build writes, byte by byte the same file, and this build reads what that build writes.
func TestStateIsTheSameInOlderBuilds(t *testing.T) {
	var entries []entry
	want := map[string][]byte{}
	for i, size := range sizes {
		e := entry{fmt.Sprint("value", i), bytes.Repeat([]byte{byte(i), 0xff}, size)[:size]}
		entries, want[e.name] = append(entries, e), e.data
	}
	for n := range len(entries) + 1 {
		f, err := write(entries[:n])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if before := encodeBefore(entries[:n]); err != nil || !bytes.Equal(got, before) {
			t.Fatalf("%d entries: %d bytes, want the %d bytes of a build from before: %v", n, len(got), len(before), err)
		}
		values, err := read(f, 1<<20)
		before, errBefore := decodeBefore(got)
		if err != nil || errBefore != nil || len(values) != n || !maps.EqualFunc(values, before, bytes.Equal) {
			t.Errorf("%d entries: %v, %v: %q", n, err, errBefore, slices.Sorted(maps.Keys(values)))
		}
		for name, data := range values {
			if !bytes.Equal(data, want[name]) {
				t.Errorf("%s has other bytes", name)
			}
		}
	}
}
