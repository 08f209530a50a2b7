package process

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"errors"
	"io"
	"os"
)

// Which programs take their sockets from the control socket has to be known before one is executed, and only its file can
// tell: the build information of a program that was built in its own tree has no version of this library.

// markText names the mechanism and its version. A program that can look for a mark has markText among its constants, which are
// not searched.
const markText = "midair: this build takes its listening sockets from the control socket, version 1"

// mark is markText where it is searched: a variable of bytes is in the data that the system maps from the file writable, and
// stays there also in a stripped program.
var mark = [...]byte{
	'm', 'i', 'd', 'a', 'i', 'r', ':', ' ', 't', 'h', 'i', 's', ' ', 'b', 'u', 'i', 'l', 'd', ' ', 't', 'a', 'k', 'e', 's', ' ',
	'i', 't', 's', ' ', 'l', 'i', 's', 't', 'e', 'n', 'i', 'n', 'g', ' ', 's', 'o', 'c', 'k', 'e', 't', 's', ' ',
	'f', 'r', 'o', 'm', ' ', 't', 'h', 'e', ' ', 'c', 'o', 'n', 't', 'r', 'o', 'l', ' ', 's', 'o', 'c', 'k', 'e', 't', ',', ' ',
	'v', 'e', 'r', 's', 'i', 'o', 'n', ' ', '1',
}

// carried makes the linker keep the mark in programs that can call Carry, and in no others.
var carried *[len(mark)]byte

// Carry puts the mark into the program. The code that takes the sockets from the control socket calls Carry.
func Carry() { carried = &mark }

// markLimit is how much data of a file is searched. A file with more data counts as a file without the mark.
const markLimit = 64 << 20

// hasMark reports whether a file is a program with the mark. A file that is no program, is cut off or cannot be read has no
// mark. The file is read and not mapped: a mapped file kills the reader when the file is truncated.
func hasMark(file io.ReaderAt) bool {
	budget := int64(markLimit)
	for _, part := range writable(file) {
		if found, err := search(part, &budget); found || err != nil {
			return found
		}
	}
	return false
}

// writable returns the data of a program that the system maps writable. The section of variables without pointers comes first,
// if the file names the section: in a program that may lie anywhere in memory (pie), the rest is most of the file.
func writable(file io.ReaderAt) (parts []*io.SectionReader) {
	if f, err := elf.NewFile(file); err == nil {
		if s := f.Section(".noptrdata"); s != nil && s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_WRITE != 0 {
			parts = append(parts, io.NewSectionReader(file, int64(s.Offset), int64(s.FileSize)))
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W != 0 {
				parts = append(parts, io.NewSectionReader(file, int64(p.Off), int64(p.Filesz)))
			}
		}
		return parts
	}
	f, err := macho.NewFile(file)
	if err != nil {
		return nil
	}
	for _, l := range f.Loads {
		if s, ok := l.(*macho.Segment); ok && s.Name == "__DATA" {
			parts = append(parts, io.NewSectionReader(file, int64(s.Offset), int64(s.Filesz)))
		}
	}
	return parts
}

var errTooLong = errors.New("there is more data than is searched")

// search looks for the mark in overlapping pieces, and takes the bytes read from the budget.
func search(part *io.SectionReader, budget *int64) (bool, error) {
	want, buf := []byte(markText), make([]byte, max(0, min(part.Size(), 256<<10)))
	for from := int64(0); part.Size()-from >= int64(len(want)); from += int64(len(buf) - len(want) + 1) {
		piece := buf[:min(int64(len(buf)), part.Size()-from)]
		if *budget -= int64(len(piece)); *budget < 0 {
			return false, errTooLong
		}
		if _, err := part.ReadAt(piece, from); err != nil {
			return false, err
		}
		if bytes.Contains(piece, want) {
			return true, nil
		}
	}
	return false, nil
}

// hasMarkAt is hasMark for a path, which may lead to a descriptor of a file that must not be read. Of such a file a single fact
// may be known: whether it is the file of this process, which has the mark.
func hasMarkAt(path string) bool {
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		return hasMark(file)
	}
	own, err1 := os.Stat(executableOf(os.Getpid()))
	other, err2 := os.Stat(path)
	return errors.Is(err, os.ErrPermission) && err1 == nil && err2 == nil && os.SameFile(own, other)
}
