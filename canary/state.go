package canary

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/midair-go/midair/internal/kept"
)

// format is the layout of the state: a state in JSON is the whole body, so what is new goes into the JSON.
var format = kept.Format{Name: "canary", Magic: "canary", Version: 1, Sum: kept.CRC32}

// state is what passes between processes. Fields may be added to a version: a reader ignores what it does not know.
type state struct {
	Name   string   `json:"name"`
	Salt   []byte   `json:"salt"` // any bytes, which a string in JSON is not
	Weight float64  `json:"weight"`
	Cookie string   `json:"cookie,omitempty"` // its name
	Keys   [][]byte `json:"keys,omitempty"`   // of the cookie, the one that seals first
}

var (
	_ encoding.BinaryMarshaler   = (*Router)(nil)
	_ encoding.BinaryUnmarshaler = (*Router)(nil)
)

// MarshalBinary returns what another process needs to decide as this one does. It holds the secret of the Cookie, so
// it is not for the eyes of others.
func (rt *Router) MarshalBinary() ([]byte, error) {
	weight, _ := rt.weight()
	s := state{Name: rt.opts.Name, Salt: []byte(rt.opts.Salt), Weight: weight}
	if c := rt.opts.Cookie; c != nil {
		s.Cookie, s.Keys = c.name(), c.ring.raw()
	}
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("canary: state: %w", err)
	}
	return format.Seal(append(format.Begin(), body...)), nil
}

// UnmarshalBinary takes over the state of another process. It may be called at any time and more than once, also in
// the process that the state once came from.
//
// The secret of the Cookie is taken over, so that each process knows the visitors of the other. The salt and the weight
// are not: a Router decides by its own Options alone, as one does that starts on a new host, and a weight that was set
// to 0 here is not undone by a state from elsewhere. While both processes live they decide the same if they were given
// the same Salt, and a Weight that passes between the processes too, such as a flag or a rollout. A state of another
// salt is logged.
func (rt *Router) UnmarshalBinary(data []byte) error {
	s, err := parseState(data)
	if err != nil {
		return err
	}
	if string(s.Salt) != rt.opts.Salt {
		rt.opts.Logger.Warn("canary: the other process has another salt, so visitors may change sides",
			slog.String("name", rt.opts.Name), slog.String("salt", rt.opts.Salt),
			slog.String("other_name", s.Name), slog.String("other_salt", string(s.Salt)), slog.Float64("other_weight", s.Weight))
	}
	if c := rt.opts.Cookie; c != nil && c.name() == s.Cookie {
		c.ring.learn(s.Keys)
	}
	return nil
}

func parseState(data []byte) (s state, err error) {
	r := format.Open(data)
	if err := r.Err(); err != nil {
		return s, err
	}
	if err := json.Unmarshal(r.Take(uint64(r.Left())), &s); err != nil {
		return s, r.Damaged(err)
	}
	return s, nil
}
