package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"time"
)

// The file of a record has two slots of the same size. A change writes the slot without the record, in place: a process killed
// meanwhile leaves the record as before, and a reader passes over an unfinished slot. A rename over the file would do the same,
// but ext4 and other file systems then wait for the disk.
//
// A slot has a magic for the version of the format, a checksum of the rest, the number of the change, the revision, the expiry
// in milliseconds, the length of the data, and the data. Numbers are big endian. Bytes after the data have no meaning. The slot
// with the higher number is the record. A record that is too large for a slot, or far too small, gets a new file by a rename.
const (
	recordMagic = "mds2"
	recordHead  = len(recordMagic) + 4 + 8 + 8 + 8 + 4

	// slotUnit divides the size of a slot.
	slotUnit = 512
	// readTries is how often a record is read without the lock while others change it so fast that both slots are unfinished.
	readTries = 3
)

// An inFile is a record in its file.
type inFile struct {
	Record
	number uint64 // of the change that has written it
	slot   int    // 0 or 1
	size   int    // of a slot
}

// decodeFile returns the record in a file, or false if no slot is whole.
func decodeFile(b []byte) (s inFile, ok bool) {
	size := len(b) / 2
	for slot := range 2 {
		rec, number, whole := decodeSlot(b[slot*size:][:size])
		if whole && (!ok || number > s.number) {
			s, ok = inFile{rec, number, slot, size}, true
		}
	}
	return s, ok
}

func decodeSlot(b []byte) (rec Record, number uint64, ok bool) {
	if len(b) < recordHead || string(b[:4]) != recordMagic {
		return Record{}, 0, false
	}
	length := uint64(binary.BigEndian.Uint32(b[32:]))
	if length > uint64(len(b)-recordHead) {
		return Record{}, 0, false
	}
	end := recordHead + int(length)
	if binary.BigEndian.Uint32(b[4:]) != checksum(b[8:end]) {
		return Record{}, 0, false
	}
	return Record{
		Data:    b[recordHead:end:end],
		Rev:     binary.BigEndian.Uint64(b[16:]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[24:]))),
	}, binary.BigEndian.Uint64(b[8:]), true
}

// encodeSlot returns the used part of a slot, in a slice with a capacity of at least room.
func encodeSlot(rec Record, number uint64, room int) []byte {
	b := make([]byte, recordHead, max(room, recordHead+len(rec.Data)))
	copy(b, recordMagic)
	binary.BigEndian.PutUint64(b[8:], number)
	binary.BigEndian.PutUint64(b[16:], rec.Rev)
	binary.BigEndian.PutUint64(b[24:], uint64(rec.Expires.UnixMilli()))
	binary.BigEndian.PutUint32(b[32:], uint32(len(rec.Data)))
	b = append(b, rec.Data...)
	binary.BigEndian.PutUint32(b[4:], checksum(b[8:]))
	return b
}

// encodeFile returns a file with a record, and some room to grow.
func encodeFile(rec Record) []byte {
	need := recordHead + len(rec.Data)
	size := (need + need/4 + slotUnit - 1) / slotUnit * slotUnit
	return encodeSlot(rec, 1, 2*size)[:2*size]
}

// holds reports whether the file of s is of the right size for a record with n bytes of data.
func (s inFile) holds(n int) bool {
	need := recordHead + n
	return need <= s.size && s.size <= max(8*need, 8*slotUnit)
}

// updateFile is update with the lock held. An expired or damaged record counts as missing.
func (d *DirStore) updateFile(p place, fn func(old Record, err error) (Record, error)) error {
	f, err := openRaw(p.file, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return d.replace(p, fn)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := readAll(f)
	if err != nil {
		return err
	}
	old, ok := decodeFile(b)
	if !ok {
		return d.replace(p, fn)
	}
	rec, err := fn(old.live())
	if err != nil {
		return err
	}
	if !old.holds(len(rec.Data)) {
		return writeFile(p.dir, p.file, encodeFile(rec), d.sync)
	}
	if _, err := f.WriteAt(encodeSlot(rec, old.number+1, 0), int64((1-old.slot)*old.size)); err != nil || !d.sync {
		return err
	}
	return f.Sync()
}

// replace is update where there is no record.
func (d *DirStore) replace(p place, fn func(old Record, err error) (Record, error)) error {
	rec, err := fn(Record{}, ErrNotFound)
	if err != nil {
		return err
	}
	return writeFile(p.dir, p.file, encodeFile(rec), d.sync)
}

// live returns ErrNotFound for an expired record.
func (s inFile) live() (Record, error) {
	if !time.Now().Before(s.Expires) {
		return Record{}, ErrNotFound
	}
	return s.Record, nil
}

// read returns the record in a file, or ErrNotFound for a missing, expired or damaged record. The lock of dir is taken only if
// others change the record all the time, or if the file is damaged.
func (d *DirStore) read(ctx context.Context, dir, file string) (rec Record, err error) {
	for range readTries {
		if rec, err = readRecord(file); !errors.Is(err, errUnfinished) {
			return rec, err
		}
	}
	err = d.locked(ctx, dir, func() error {
		rec, err = readRecord(file)
		return err
	})
	if errors.Is(err, errUnfinished) {
		return Record{}, ErrNotFound
	}
	return rec, err
}

// errUnfinished is the error of a file without a record: the file is being changed at this moment, or damaged.
var errUnfinished = errors.New("no slot of the file is whole")

// readRecord returns ErrNotFound for a missing or expired record, and errUnfinished.
func readRecord(file string) (Record, error) {
	b, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNotFound
	}
	if err != nil {
		return Record{}, err
	}
	s, ok := decodeFile(b)
	if !ok {
		return Record{}, errUnfinished
	}
	return s.live()
}
