package rollout

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

// format is the layout of the state and of messages: a head in JSON, and then the evidence. New fields go into the JSON.
var format = kept.Format{Name: "rollout", Magic: "rollout", Version: 1, Sum: kept.CRC32}

// A head is a rollout without its evidence. Fields may be added: a reader ignores what it does not know.
type head struct {
	Salt    string        `json:"salt"`
	State   State         `json:"state"`
	Step    int           `json:"step"` // from 1
	Passed  bool          `json:"passed,omitempty"`
	Spent   time.Duration `json:"spent"`
	Began   uint64        `json:"began"`
	Reason  string        `json:"reason"`
	Turn    uint64        `json:"turn"`
	Aborts  aborts        `json:"aborts,omitempty"`
	Opinion Opinion       `json:"opinion,omitzero"`
	Warm    int64         `json:"warm,omitempty"` // when the canary is warm, by the clock of the processes
	Uses    counted       `json:"uses,omitempty"`
	Part    bool          `json:"part,omitempty"` // only the salt and the evidence are there
}

func seal(h head, evidence []byte) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("rollout: the state: %w", err)
	}
	return format.Seal(kept.Append32(kept.Append32(format.Begin(), b), evidence)), nil
}

func open(data []byte) (h head, evidence []byte, err error) {
	rd := format.Open(data)
	b := rd.Bytes32()
	evidence = rd.Bytes32()
	if err := rd.Err(); err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, nil, rd.Damaged(err)
	}
	if err := h.check(); err != nil {
		return h, nil, rd.Damaged(err)
	}
	return h, evidence, nil
}

// check returns an error if no process writes such a head.
func (h head) check() error {
	most := h.Opinion.Most
	switch {
	case h.Step < 0 || h.Step == 0 && (h.State == Ramping || h.State == Gated):
		return fmt.Errorf("the state %v in step %d", h.State, h.Step)
	case h.Spent < 0:
		return fmt.Errorf("a time of %v in the step", h.Spent)
	case most < 0 || most > 1:
		return fmt.Errorf("a greatest weight of %v", most)
	}
	return nil
}
