package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// envelopeFormat is the format written by this version. Additions do not raise the number, because every version keeps unknown
// members. A higher number means that an older reader would do harm.
const envelopeFormat = 1

const (
	// adoptable is how long the id of a cookie may be created in the store. The id of a visitor's first cookie exists
	// nowhere else yet, so that two first writes at the same time meet in one session. After this time an id that the
	// store does not know is never taken: it was expired or removed. It is the same in all versions.
	adoptable = time.Hour
	// margin is what clocks of two hosts may differ.
	margin = time.Minute
	// grace is how long requests that were on their way when a session was renewed can read it as it was before.
	grace = 30 * time.Second
	// rest is how long the end of a session is remembered at least, for requests that began before it.
	rest = 10 * time.Minute
)

// An envelope is the content of a record: a JSON object with a member for each field, and values as they were encoded. An
// envelope in a visit is immutable; changes are made to a clone.
type envelope struct {
	created    time.Time // when the session was created or last renewed; to the millisecond
	gone       time.Time // when it was destroyed or renewed away, zero for a live one; to the millisecond
	renewed    bool      // it goes on under another id
	remembered bool      // it lives for Options.Remember
	user       string    // who has logged in, or ""
	login      login     // of the user
	values     members
	extra      members // members of newer versions
}

// A login is the part of an envelope about the login of the user. A renewal keeps the login, also a renewal by a version of
// this package without users.
type login struct {
	ID string `json:"id"`  // names the login through all renewals
	At int64  `json:"at"`  // when the user logged in, in milliseconds
	In string `json:"key"` // the short key under which the session was listed; a renewal by an old version does not change it
}

// short is enough of a key to tell whether an envelope was copied to another key.
func short(key string) string { return key[:16] }

// members are the members of a JSON object.
type members = map[string]json.RawMessage

func newEnvelope(now time.Time) *envelope {
	return &envelope{created: ceil(now), values: members{}}
}

// ceil rounds up to the millisecond.
func ceil(t time.Time) time.Time {
	if cut := t.Truncate(time.Millisecond); cut.Before(t) {
		return cut.Add(time.Millisecond)
	}
	return t
}

// tombstone makes the envelope in place of an ended session.
func tombstone(now time.Time) *envelope {
	now = now.Truncate(time.Millisecond)
	return &envelope{created: now, gone: now, values: members{}}
}

func (e *envelope) clone() *envelope {
	c := *e
	c.values = maps.Clone(e.values)
	return &c
}

// size is the number of bytes to compare with Options.MaxSize.
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
	if ms := e.created.UnixMilli() % 1000; ms != 0 { // apart from the seconds, because the first builds read whole seconds
		m["created_ms"] = json.RawMessage(fmt.Appendf(nil, "%d", ms))
	}
	if e.remembered {
		m["remembered"] = json.RawMessage("true")
	}
	if e.user != "" {
		user, err := encodeJSON(e.user)
		if err != nil {
			return nil, fmt.Errorf("session: encode: %w", err)
		}
		m["user"] = user
		if m["login"], err = encodeJSON(e.login); err != nil {
			return nil, fmt.Errorf("session: encode: %w", err)
		}
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
	var created, createdMS, gone int64
	e := &envelope{extra: m}
	for name, dst := range map[string]any{
		"format": &format, "created": &created, "created_ms": &createdMS, "gone": &gone, "renewed": &e.renewed,
		"remembered": &e.remembered, "user": &e.user, "login": &e.login, "values": &e.values,
	} {
		if err := take(m, name, dst); err != nil {
			return nil, err
		}
	}
	if format < 1 || format > envelopeFormat {
		return nil, fmt.Errorf("session: decode: format %d, this version reads 1 to %d", format, envelopeFormat)
	}
	e.created = time.UnixMilli(created*1000 + createdMS)
	if gone != 0 {
		e.gone = time.UnixMilli(gone)
	}
	if e.values == nil {
		e.values = members{}
	}
	return e, nil
}

// take decodes a member, if present, and removes it from m.
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

// encodeJSON is json.Marshal without the escapes for HTML, which would change values written by another version.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
