package flags

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

var (
	_ encoding.BinaryMarshaler   = (*Flags)(nil)
	_ encoding.BinaryUnmarshaler = (*Flags)(nil)
)

// What passes between generations: a magic, the version of the format, when the content was read (nanoseconds since
// 1970), the path that it was read from and the content with their lengths before them, whatever a later version may add,
// and a SHA-256 sum of all that. Numbers are big endian.
const (
	keptMagic   = "midair-flags\x00"
	keptVersion = 1
)

// kept is the last good content of a generation. There is none if the content is empty.
type kept struct {
	loaded  time.Time
	from    string
	content []byte
}

var (
	errKept  = errors.New("flags: what the other generation sent is damaged or something else")
	errNewer = errors.New("flags: what the other generation sent has an unknown format")
)

func (k kept) encode() []byte {
	b := append([]byte(keptMagic), keptVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(k.loaded.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.from)))
	b = append(b, k.from...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(k.content)))
	b = append(b, k.content...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeKept(b []byte) (k kept, err error) {
	body := len(b) - sha256.Size
	if body <= len(keptMagic) || string(b[:len(keptMagic)]) != keptMagic {
		return k, errKept
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return k, errKept
	}
	if b[len(keptMagic)] != keptVersion {
		return k, fmt.Errorf("%w: version %d, this one knows %d", errNewer, b[len(keptMagic)], keptVersion)
	}
	rest := b[len(keptMagic)+1 : body]
	if len(rest) < 8 {
		return k, errKept
	}
	k.loaded = time.Unix(0, int64(binary.BigEndian.Uint64(rest)))
	from, rest, ok := field(rest[8:])
	content, _, good := field(rest)
	if !ok || !good {
		return k, errKept
	}
	k.from, k.content = string(from), bytes.Clone(content)
	return k, nil
}

func field(b []byte) (data, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

// MarshalBinary returns the last good content of the file, and when and from where it was read, for upgrade's Keep. The
// file is looked at first: the new process will, and both should go by the same while they serve side by side.
func (f *Flags) MarshalBinary() ([]byte, error) {
	f.check()
	cur := f.cur.Load()
	if cur == nil {
		return kept{loaded: time.Unix(0, 0)}.encode(), nil
	}
	return kept{cur.loaded, cur.from, cur.content}.encode(), nil
}

// UnmarshalBinary takes what MarshalBinary of another generation returned. The file is looked at first, and if it is
// good it is served; otherwise the content that was read later is, the own one or the other's. It may be called at any
// time. The error is that the data is damaged, or that it is needed and not understood.
func (f *Flags) UnmarshalBinary(data []byte) error {
	k, err := decodeKept(data)
	if errors.Is(err, errKept) {
		return err
	}
	f.check()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.inherit(k)
	}
	if err != nil && f.cur.Load() != nil {
		f.opts.Logger.Warn("flags: not taken from the other generation", "path", f.path, "reason", err)
		return nil
	}
	for p := range f.providers {
		p.tell(f.state())
	}
	return err
}

// inherit serves the other generation's content if that is better than what is here. The caller holds the lock.
func (f *Flags) inherit(k kept) error {
	cur := f.cur.Load()
	if len(k.content) == 0 || f.err == nil || cur != nil && !k.loaded.After(cur.loaded) {
		return nil
	}
	s, bad := compile(k.content, k.from, f.opts.Attributes)
	if bad != nil {
		return fmt.Errorf("flags: the content that another generation read from %s: %w", k.from, bad)
	}
	if cur != nil && cur.sum == s.sum {
		return nil
	}
	s.loaded, s.kept = k.loaded, true
	broken := f.err
	f.take(s)
	f.err = broken
	return nil
}
