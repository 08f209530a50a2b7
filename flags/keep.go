package flags

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

var (
	_ encoding.BinaryMarshaler   = (*Flags)(nil)
	_ encoding.BinaryUnmarshaler = (*Flags)(nil)
)

// format is the layout of the state: when the content was read, the path of its file, and the content.
var format = kept.Format{Name: "flags", Magic: "midair-flags\x00", Version: 1}

// lastGood is the last good content of a process. A process without content has none.
type lastGood struct {
	loaded  time.Time
	from    string
	content []byte
}

func (l lastGood) encode() []byte {
	b := kept.AppendTime(format.Begin(), l.loaded)
	b = kept.Append32(b, l.from)
	return format.Seal(kept.Append32(b, l.content))
}

func decodeLastGood(data []byte) (lastGood, error) {
	r := format.Open(data)
	l := lastGood{r.Time(), string(r.Bytes32()), bytes.Clone(r.Bytes32())}
	return l, r.Err()
}

// MarshalBinary returns the last good content of the file, and when and from where it was read, for upgrade's Keep. The
// file is looked at first: the new process will, and both should go by the same while they serve side by side.
func (f *Flags) MarshalBinary() ([]byte, error) {
	f.check()
	cur := f.cur.Load()
	if cur == nil {
		return lastGood{loaded: time.Unix(0, 0)}.encode(), nil
	}
	return lastGood{cur.loaded, cur.from, cur.content}.encode(), nil
}

// UnmarshalBinary takes what MarshalBinary of another generation returned. The file is looked at first, and if it is
// good it is served; otherwise the content that was read later is, the own one or the other's. It may be called at any
// time. The error is that the data is damaged, or that it is needed and not understood.
func (f *Flags) UnmarshalBinary(data []byte) error {
	l, err := decodeLastGood(data)
	if err != nil && !errors.Is(err, kept.ErrLater) {
		return err
	}
	f.check()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.inherit(l)
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
func (f *Flags) inherit(l lastGood) error {
	cur := f.cur.Load()
	if len(l.content) == 0 || f.err == nil || cur != nil && !l.loaded.After(cur.loaded) {
		return nil
	}
	s, bad := compile(l.content, l.from, f.opts.Attributes)
	if bad != nil {
		return fmt.Errorf("flags: the content that another generation read from %s: %w", l.from, bad)
	}
	if cur != nil && cur.sum == s.sum {
		return nil
	}
	s.loaded, s.kept = l.loaded, true
	broken := f.err
	f.take(s)
	f.err = broken
	return nil
}
