package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// rollFormat is what this version writes. As with envelopes, additions do not raise it.
	rollFormat = 1
	// maxListed is how many sessions a user has at most.
	maxListed = 1000
	// young is how long an entry without a live session is kept: a login may be about to create the session.
	young = adoptable + 2*margin
)

// A roll is the record of a user: a JSON object that lists the sessions. Members unknown to this version are kept.
type roll struct {
	rev      uint64
	stored   bool // there is a record
	expires  time.Time
	sessions map[string]entry // by their keys
	ended    map[string]int64 // logins that were revoked, until when that has to be known, in milliseconds
	all      int64            // how often all sessions were revoked
	extra    members
}

// An entry of a roll is a session.
type entry struct {
	login login
	added int64 // when it was listed last, in milliseconds
	extra members
}

func (e entry) old(now time.Time) bool { return now.After(time.UnixMilli(e.added).Add(young)) }

func (e entry) encode() (json.RawMessage, error) {
	m := maps.Clone(e.extra)
	if m == nil {
		m = members{}
	}
	m["login"], _ = encodeJSON(e.login.ID)
	m["at"], _ = encodeJSON(e.login.At)
	m["added"], _ = encodeJSON(e.added)
	return encodeJSON(m)
}

func decodeEntry(raw json.RawMessage) (e entry, err error) {
	if err := json.Unmarshal(raw, &e.extra); err != nil {
		return entry{}, err
	}
	return e, errors.Join(take(e.extra, "login", &e.login.ID), take(e.extra, "at", &e.login.At), take(e.extra, "added", &e.added))
}

func (r *roll) encode(now time.Time) ([]byte, error) {
	r.prune(now)
	sessions := members{}
	for key, e := range r.sessions {
		raw, err := e.encode()
		if err != nil {
			return nil, fmt.Errorf("session: encode: %w", err)
		}
		sessions[key] = raw
	}
	m := maps.Clone(r.extra)
	if m == nil {
		m = members{}
	}
	for name, value := range map[string]any{"format": rollFormat, "sessions": sessions, "ended": r.ended, "all": r.all} {
		raw, err := encodeJSON(value)
		if err != nil {
			return nil, fmt.Errorf("session: encode: %w", err)
		}
		m[name] = raw
	}
	return encodeJSON(m)
}

// prune forgets revoked logins whose sessions have expired, and the logins that expire first if there are too many.
func (r *roll) prune(now time.Time) {
	maps.DeleteFunc(r.ended, func(_ string, until int64) bool { return now.After(time.UnixMilli(until)) })
	if more := len(r.ended) - maxListed; more > 0 {
		ids := slices.SortedFunc(maps.Keys(r.ended), func(a, b string) int { return cmp.Compare(r.ended[a], r.ended[b]) })
		for _, id := range ids[:more] {
			delete(r.ended, id)
		}
	}
}

func decodeRoll(rec Record) (*roll, error) {
	var m, sessions members
	if err := json.Unmarshal(rec.Data, &m); err != nil {
		return nil, fmt.Errorf("session: decode the list of a user: %w", err)
	}
	r := &roll{rev: rec.Rev, stored: true, expires: rec.Expires, sessions: map[string]entry{}, extra: m}
	var format int
	for name, dst := range map[string]any{"format": &format, "sessions": &sessions, "ended": &r.ended, "all": &r.all} {
		if err := take(m, name, dst); err != nil {
			return nil, err
		}
	}
	if format < 1 || format > rollFormat {
		return nil, fmt.Errorf("session: decode the list of a user: format %d, this version reads 1 to %d", format, rollFormat)
	}
	if r.ended == nil {
		r.ended = map[string]int64{}
	}
	for key, raw := range sessions {
		e, err := decodeEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("session: decode the list of a user: %w", err)
		}
		r.sessions[key] = e
	}
	return r, nil
}

func (r *roll) isEnded(l login) bool {
	_, ended := r.ended[l.ID]
	return ended
}

func (r *roll) has(key string) bool {
	_, ok := r.sessions[key]
	return ok
}

// oldest is the id of the first login with a session.
func (r *roll) oldest() (id string) {
	var first int64
	for _, e := range r.sessions {
		if id == "" || e.login.At < first {
			id, first = e.login.ID, e.login.At
		}
	}
	return id
}
