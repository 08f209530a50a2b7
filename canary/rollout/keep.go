package rollout

import (
	"encoding"
	"fmt"
)

var (
	_ encoding.BinaryMarshaler   = (*Rollout)(nil)
	_ encoding.BinaryUnmarshaler = (*Rollout)(nil)
)

// MarshalBinary returns the state and the evidence for UnmarshalBinary of another process, so that a rollout goes on through an
// upgrade: pass the Rollout to Keep of an Upgrader.
func (r *Rollout) MarshalBinary() ([]byte, error) {
	evidence, err := r.evidence.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("rollout: the evidence: %w", err)
	}
	return seal(r.sharing.head(r.uses.counted()), evidence)
}

// UnmarshalBinary takes over the state and adds the evidence of another process. It may be called at any time and more than
// once, also with a state that once came from this process: each outcome counts once. A state with another salt is about
// another release, and is ignored.
func (r *Rollout) UnmarshalBinary(data []byte) error {
	return r.sharing.receive(data, r.evidence.UnmarshalBinary)
}

// Ingest takes over what Options.Broadcast of another process has sent. A message may be lost, come late, or come twice. A
// message with another salt is ignored.
func (r *Rollout) Ingest(message []byte) error {
	err := r.sharing.receive(message, r.evidence.Ingest)
	poke(r.wake)
	return err
}
