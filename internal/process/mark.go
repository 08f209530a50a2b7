package process

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"errors"
	"io"
	"os"
)

// Before a program is executed, this process has to know whether the program takes its sockets from the control socket. Only
// the content of the file shows this: the build information does not show the version of this library if the program was
// built in the source tree of the library.

// markText is the text of the mark: the mechanism and its version. Every program that contains hasMark contains this constant,
// even if the program has no mark. But constants are in a part of the file that hasMark does not search.
const markText = "midair: this build takes its listening sockets from the control socket, version 1"

// mark holds the bytes of markText at a place that hasMark searches. Since mark is a variable, its bytes are in the writable
// data of the program file, and stay there when the program is stripped.
var mark = [...]byte{
	'm', 'i', 'd', 'a', 'i', 'r', ':', ' ', 't', 'h', 'i', 's', ' ', 'b', 'u', 'i', 'l', 'd', ' ', 't', 'a', 'k', 'e', 's', ' ',
	'i', 't', 's', ' ', 'l', 'i', 's', 't', 'e', 'n', 'i', 'n', 'g', ' ', 's', 'o', 'c', 'k', 'e', 't', 's', ' ',
	'f', 'r', 'o', 'm', ' ', 't', 'h', 'e', ' ', 'c', 'o', 'n', 't', 'r', 'o', 'l', ' ', 's', 'o', 'c', 'k', 'e', 't', ',', ' ',
	'v', 'e', 'r', 's', 'i', 'o', 'n', ' ', '1',
}

// carried is set by Carry only. So the linker keeps the mark in programs that contain a call of Carry, and in no other program.
var carried *[len(mark)]byte

// Carry makes the linker put the mark into the program. The code that takes the sockets from the control socket calls Carry.
func Carry() { carried = &mark }

// markLimit is how many bytes of a file are searched at most. If the mark is not in these bytes, the file counts as a file
// without the mark.
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

// writable returns the parts of a program file that the system loads into writable memory. If the file has a table of sections,
// the first part is the section of variables without pointers, where the mark is. The other parts come later, because they are
// most of the file in a position-independent program (pie).
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

// pieceSize is how many bytes of a file are read at once. It is small because the kernel has to provide each page of a new
// buffer, which takes long on some virtual machines. A buffer of 256 KiB has 64 pages.
const pieceSize = 16 << 10

var errTooLong = errors.New("there is more data than is searched")

// search reports whether the mark is in a part of a file. It reads the part in overlapping pieces, and subtracts the number of
// read bytes from the budget; the error is errTooLong if the budget does not suffice.
func search(part *io.SectionReader, budget *int64) (bool, error) {
	want, buf := []byte(markText), make([]byte, max(0, min(part.Size(), pieceSize)))
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

// hasMarkAt is hasMark for the file at a path. If this process has no right to read the file, hasMarkAt returns true only for
// the executable of this process itself, which has the mark.
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
