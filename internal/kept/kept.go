// Package kept is the format of kept state. A program gives values to upgrade's Keep, and the old process sends the bytes of
// these values to the new process. On an abort or a rollback, the new process sends such bytes back.
//
//	magic | version (1 byte) | body | checksum of everything before
//
// Numbers are big endian. A [Format] describes the state of one kind of value. The owner of a Format appends the fields
// of the body between [Format.Begin] and [Format.Seal], and takes the fields in the same order from [Format.Open]:
//
//	b := format.Begin()
//	b = kept.AppendTime(b, loaded)
//	b = kept.Append32(b, content)
//	return format.Seal(b), nil
//
//	r := format.Open(data)
//	loaded, content := r.Time(), r.Bytes32()
//	if err := r.Err(); err != nil { … }
//
// # Compatibility
//
// Builds with different versions of the library upgrade each other, and roll back to each other. So every layout which a build
// has once written must stay readable for later builds. There are two ways to change a layout:
//   - Append fields at the end of the body, if the readers of all older builds stop after the last field that they know. A
//     newer reader looks at [Reader.Left] before the new fields.
//   - Raise [Format.Version]. An older reader refuses such a state with [ErrLater]. A newer reader still gets the states
//     of older versions, and asks [Reader.Version].
//
// The magic, the place of the version and the kind of checksum never change.
//
// # Goroutines
//
// A Format may be used from any number of goroutines. A Reader may be used from one goroutine at a time. The package has no
// state.
package kept

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"
)

// restart is the advice for a user if a process cannot read the state of another process.
const restart = "stop and start the service once instead of upgrading"

// The reasons for which a state is refused. The error of the Reader wraps the reason and names the Format.
var (
	// ErrForeign: the state begins with another magic. Either two processes use the same name for values of different kinds, or
	// the state was cut off.
	ErrForeign = errors.New("not of this kind: keep each kind of value under a name of its own, or " + restart)
	// ErrDamaged: the checksum is wrong, or the body ends before the last field.
	ErrDamaged = errors.New("damaged: " + restart)
	// ErrLater: the state is intact, and has a later version than this process can read.
	ErrLater = errors.New("of a later format: " + restart)
)

// A Format is the layout of the state of one kind of value. A Format may be copied.
type Format struct {
	// Name is the name of the kind in errors, "flags" for example.
	Name string
	// Magic is the beginning of every state of this kind. No Magic may be the beginning of another Magic.
	Magic string
	// Version is the version of the states which Begin starts. Open accepts this version and every earlier version. The first
	// version is 1.
	Version byte
	// Sum is the checksum. Default: SHA256.
	Sum Sum
}

// A Sum is a kind of checksum. A checksum finds damage, not forgery: the sender is trusted.
type Sum uint8

// The checksums.
const (
	SHA256 Sum = iota // 32 bytes; for every new Format
	CRC32             // 4 bytes, IEEE; only for layouts which are older than this package
)

// Size returns the number of bytes which the checksum takes at the end of a state.
func (s Sum) Size() int {
	if s == CRC32 {
		return crc32.Size
	}
	return sha256.Size
}

// New returns a hash for the checksum of a state that is written in parts. The hash must get all bytes before the checksum.
func (s Sum) New() hash.Hash {
	if s == CRC32 {
		return crc32.NewIEEE()
	}
	return sha256.New()
}

func (s Sum) of(b []byte) []byte {
	if s == CRC32 {
		return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// Begin returns the beginning of a state, to which the fields of the body are to be appended.
func (f Format) Begin() []byte { return append([]byte(f.Magic), f.Version) }

// Seal appends the checksum to a state which was started by Begin.
func (f Format) Seal(b []byte) []byte { return append(b, f.Sum.of(b)...) }

// Open checks magic, checksum and version, in this order, and returns a Reader of the body. If a check fails, the Reader
// is empty, and its Err is the reason.
func (f Format) Open(data []byte) *Reader {
	start, end := len(f.Magic)+1, len(data)-f.Sum.Size()
	if !bytes.HasPrefix(data, []byte(f.Magic)) {
		return &Reader{format: f, err: f.refuse(ErrForeign)}
	}
	if end < start || !bytes.Equal(f.Sum.of(data[:end]), data[end:]) || data[start-1] == 0 {
		return &Reader{format: f, err: f.refuse(ErrDamaged)}
	}
	r := &Reader{format: f, version: data[start-1], rest: data[start:end:end]}
	if r.err = f.read(r.version); r.err != nil {
		r.rest = nil
	}
	return r
}

// OpenAt does the same as Open for a state of size bytes that begins at the beginning of file. It returns the place of the body.
// OpenAt has only a small part of the state in memory at a time.
func (f Format) OpenAt(file io.ReaderAt, size int64) (*io.SectionReader, error) {
	all := io.NewSectionReader(file, 0, size)
	start, end := int64(len(f.Magic)+1), size-int64(f.Sum.Size())
	head := make([]byte, min(start, size))
	if _, err := io.ReadFull(all, head); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if !bytes.HasPrefix(head, []byte(f.Magic)) {
		return nil, f.refuse(ErrForeign)
	}
	if end < start {
		return nil, f.refuse(ErrDamaged)
	}
	sum, want := f.Sum.New(), make([]byte, f.Sum.Size())
	sum.Write(head) // a hash returns no error
	_, err := io.CopyBuffer(sum, io.LimitReader(all, end-start), make([]byte, min(end-start+1, 128<<10)))
	if err == nil {
		_, err = io.ReadFull(all, want)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	version := head[start-1]
	if version == 0 || !bytes.Equal(sum.Sum(nil), want) {
		return nil, f.refuse(ErrDamaged)
	}
	return io.NewSectionReader(file, start, end-start), f.read(version)
}

// read returns an ErrLater if this process cannot read states of the version.
func (f Format) read(version byte) error {
	if version > f.Version {
		return fmt.Errorf("%w (version %d, this process reads up to %d)", f.refuse(ErrLater), version, f.Version)
	}
	return nil
}

// Body returns a Reader of bytes which have no magic, no version and no checksum: for example a list inside a field, or a
// layout which is older than this package. The Version of the Reader is 0.
func (f Format) Body(fields []byte) *Reader { return &Reader{format: f, rest: fields} }

func (f Format) refuse(reason error) error {
	return fmt.Errorf("%s: the state which the other process sent is %w", f.Name, reason)
}

// Append16 appends the length of data in 16 bits, and then data, which has at most 65,535 bytes.
func Append16(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// Append32 appends the length of data in 32 bits, and then data, which has less than 4 GiB.
func Append32[T []byte | string](b []byte, data T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// Append64 appends the length of data in 64 bits, and then data.
func Append64(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(data))), data...)
}

// AppendTime appends a time as nanoseconds since 1970, in 64 bits.
func AppendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

// A Reader reads the fields of a body from front to back. If the body ends before a field, the field and all later fields are
// zero, and Err returns an ErrDamaged. Returned slices are parts of the data given to Open or Body: clone a slice which is used
// longer than the data.
type Reader struct {
	format  Format
	version byte
	rest    []byte
	err     error
}

// Version returns the version in which the state was written.
func (r *Reader) Version() byte { return r.version }

// Left returns the number of bytes which have not been read. If bytes are left after the last field that this build knows, a
// later build has written them.
func (r *Reader) Left() int { return len(r.rest) }

// Err returns the reason if Open refused the state. It returns an ErrDamaged if the body ended before the end of a field that
// was read. Otherwise it returns nil.
func (r *Reader) Err() error { return r.err }

// Damaged returns an ErrDamaged for a field with invalid content. The argument why is the error that describes what is wrong
// with the field.
func (r *Reader) Damaged(why error) error {
	return fmt.Errorf("%w: %w", r.format.refuse(ErrDamaged), why)
}

// Take reads n bytes.
func (r *Reader) Take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.rest)) {
		r.rest, r.err = nil, r.format.refuse(ErrDamaged)
	}
	if r.err != nil {
		return nil
	}
	head := r.rest[:n:n]
	r.rest = r.rest[n:]
	return head
}

// Uint16 reads a number of 16 bits.
func (r *Reader) Uint16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads a number of 32 bits.
func (r *Reader) Uint32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a number of 64 bits.
func (r *Reader) Uint64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Time reads a time which AppendTime has appended.
func (r *Reader) Time() time.Time { return time.Unix(0, int64(r.Uint64())) }

// Bytes16 reads data which Append16 has appended.
func (r *Reader) Bytes16() []byte { return r.Take(uint64(r.Uint16())) }

// Bytes32 reads data which Append32 has appended.
func (r *Reader) Bytes32() []byte { return r.Take(uint64(r.Uint32())) }

// Bytes64 reads data which Append64 has appended.
func (r *Reader) Bytes64() []byte { return r.Take(r.Uint64()) }
