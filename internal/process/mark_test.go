//go:build unix

package process

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// The bytes that Carry puts into a program are the text that hasMark searches for.
func TestMarkIsItsText(t *testing.T) {
	if Carry(); string(mark[:]) != markText || string(carried[:]) != markText {
		t.Errorf("%q, %q", mark[:], markText)
	}
}

// program returns an ELF file with one segment. writable is whether the system maps the segment writable.
func program(writable bool, size uint64, data []byte) []byte {
	const head = 64 + 56
	flags := uint32(4)
	if writable {
		flags |= 2
	}
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, v := range []any{
		uint16(2), uint16(62), uint32(1), uint64(0), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), flags, uint64(head), uint64(0), uint64(0), size, size, uint64(1),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	return append(b.Bytes(), data...)
}

// at returns data with the mark at an offset.
func at(offset, size int) []byte {
	b := bytes.Repeat([]byte{'m'}, size)
	copy(b[offset:], markText)
	return b
}

// The mark counts at any place in data that the system maps writable. It does not count among constants, in the rest of the
// file, or if a part of the mark is missing. A file that is no program, or is cut off, has no mark.
func TestMarkCountsInWritableData(t *testing.T) {
	const piece = 256 << 10
	n := len(markText)
	for name, c := range map[string]struct {
		file []byte
		want bool
	}{
		"at the start":     {program(true, 4096, at(0, 4096)), true},
		"at the end":       {program(true, 4096, at(4096-n, 4096)), true},
		"alone":            {program(true, uint64(n), at(0, n)), true},
		"over two pieces":  {program(true, 2*piece, at(piece-n/2, 2*piece)), true},
		"in a third piece": {program(true, 3*piece, at(3*piece-2*n, 3*piece)), true},
		"constant":         {program(false, 4096, at(0, 4096)), false},
		"behind":           {program(true, 1024, at(1024, 4096)), false},
		"over the end":     {program(true, 1024, at(1024-n/2, 4096)), false},
		"cut off":          {program(true, 4096, at(0, 4096)[:1024]), false},
		"no size":          {program(true, 0, nil), false},
		"negative size":    {program(true, 1<<63, at(0, 4096)), false},
		"empty":            {nil, false},
		"a script":         {append([]byte("#!/bin/sh\n"), markText...), false},
		"a head":           {program(true, 4096, nil)[:60], false},
	} {
		if got := hasMark(bytes.NewReader(c.file)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The search ends with an error when more bytes would be read than the budget allows.
func TestSearchHasABudget(t *testing.T) {
	data := at(4096-len(markText), 4096)
	for budget, want := range map[int64]bool{4096: true, 4095: false, 0: false} {
		if got, err := search(io.NewSectionReader(bytes.NewReader(data), 0, 4096), &budget); got != want || (err == nil) != want {
			t.Errorf("%v, %v", got, err)
		}
	}
}

// hasMark does not panic for any file, and does not allocate as much memory as a wrong size in the file says.
func FuzzMark(f *testing.F) {
	f.Add(program(true, 4096, at(7, 4096)))
	f.Add(program(true, 1<<63, nil))
	f.Fuzz(func(_ *testing.T, b []byte) { hasMark(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))) })
}

// BenchmarkMark searches a program of 20 MiB. This should take much less time than the program takes for its first answer.
func BenchmarkMark(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(path, append(content, make([]byte, max(0, 20<<20-len(content)))...), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for b.Loop() {
		hasMark(file)
	}
}
