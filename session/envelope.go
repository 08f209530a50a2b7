package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// envelopeFormat is what this version writes. Additions do not raise it, because every version keeps the members that
// it does not know; a higher one means that an older reader would do harm.
const envelopeFormat = 1

// An envelope is the content of a record: a JSON object with a member for each field, and values as they were encoded.
// It is immutable once it is in a visit; changes are made to a clone.
type envelope struct {
	created time.Time // when the session was created or last renewed; to the second
	gone    time.Time // when it was destroyed or renewed away, zero for a live one; to the millisecond
	renewed bool      // it goes on under another id
	values  members
	extra   members // members of newer versions
}

// members are those of a JSON object.
type members = map[string]json.RawMessage

func newEnvelope(now time.Time) *envelope {
	return &envelope{created: now.Truncate(time.Second), values: members{}}
}

// tombstone takes the place of a session that was destroyed.
func tombstone(now time.Time) *envelope {
	return &envelope{created: now.Truncate(time.Second), gone: now.Truncate(time.Millisecond), values: members{}}
}

func (e *envelope) clone() *envelope {
	c := *e
	c.values = maps.Clone(e.values)
	return &c
}

// size is what counts for Options.MaxSize.
func (e *envelope) size() int {
	n := 0
	for name, raw := range e.values {
		n += len(name) + len(raw)
	}
	return n
}

func (e *envelope) encode() ([]byte, error) {
	m := maps.Clone(e.extra)
	if m == nil {
		m = members{}
	}
	m["format"] = json.RawMessage(fmt.Appendf(nil, "%d", envelopeFormat))
	m["created"] = json.RawMessage(fmt.Appendf(nil, "%d", e.created.Unix()))
	if !e.gone.IsZero() {
		m["gone"] = json.RawMessage(fmt.Appendf(nil, "%d", e.gone.UnixMilli()))
	}
	if e.renewed {
		m["renewed"] = json.RawMessage("true")
	}
	values, err := encodeJSON(e.values)
	if err != nil {
		return nil, fmt.Errorf("session: encode: %w", err)
	}
	m["values"] = values
	data, err := encodeJSON(m)
	if err != nil {
		return nil, fmt.Errorf("session: encode: %w", err)
	}
	return data, nil
}

func decodeEnvelope(data []byte) (*envelope, error) {
	var m members
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("session: decode: %w", err)
	}
	var format int
	var created, gone int64
	e := &envelope{extra: m}
	for name, dst := range map[string]any{
		"format": &format, "created": &created, "gone": &gone, "renewed": &e.renewed, "values": &e.values,
	} {
		if err := take(m, name, dst); err != nil {
			return nil, err
		}
	}
	if format < 1 || format > envelopeFormat {
		return nil, fmt.Errorf("session: decode: format %d, this version reads 1 to %d", format, envelopeFormat)
	}
	e.created = time.Unix(created, 0)
	if gone != 0 {
		e.gone = time.UnixMilli(gone)
	}
	if e.values == nil {
		e.values = members{}
	}
	return e, nil
}

// take decodes a member, if it is there, and removes it from m.
func take(m members, name string, dst any) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	delete(m, name)
	if err := json.Unmarshal(raw, dst); err != nil {
		return fmt.Errorf("session: decode %s: %w", name, err)
	}
	return nil
}

// encodeJSON is json.Marshal without the escapes for HTML, which would change values that another version wrote.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
