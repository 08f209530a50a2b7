package canary

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/midair-go/midair/internal/kept"
)

// format is the layout of the state: a state in JSON is the whole body, so new fields go into the JSON.
var format = kept.Format{Name: "canary", Magic: "canary", Version: 1, Sum: kept.CRC32}

// state passes between processes. Fields may be added to a version: a reader ignores unknown fields.
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

// MarshalBinary returns the state for UnmarshalBinary of another process. The state holds the secret of the Cookie, so keep the
// state confidential.
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

// UnmarshalBinary takes over the state of another process. It may be called at any time and more than once, also in the process
// from which the state once came.
//
// The secret of the Cookie is taken over, so each process knows the visitors of the other. The salt and the weight are not
// taken over: a Router decides by the Options alone, as on a new host, and a state from elsewhere does not undo a weight of 0
// that was set here. While both processes live, they decide the same if both were given the same Salt, and a Weight that passes
// between the processes too, such as a flag or a rollout. A state with another salt is logged.
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
