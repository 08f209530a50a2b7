//go:build linux

package testservice

import (
	"errors"
	"fmt"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Validate returns an error that names each behaviour which no program has.
func Validate(s plan.Settings) error {
	var missing error
	if m := s.Meddling; (m.Do == plan.Rubbish || m.Do == plan.Retort) && m.Kind == "" {
		missing = fmt.Errorf("testservice: Settings.Meddling.Kind: %q needs the kind of a message", m.Do)
	}
	if m := s.Meddling; m.Word != plan.ReadyByte {
		missing = errors.Join(missing, known("Meddling.Word", m.Word, kinds))
	}
	return errors.Join(missing,
		known("Bad", s.Bad, misbehaviours), known("Bake", s.Bake, judges), known("Smoke", s.Smoke, smokeTests),
		known("Verify", s.Verify, verifications), known("Lock", s.Lock, locks), known("Names", s.Names, namesAddrs), known("Drop", s.Drop, drops),
		known("Split", s.Split, splits),
		known("Meddling.Do", s.Meddling.Do, meddles), known("Meddling.Kind", s.Meddling.Kind, kinds),
	)
}

// known returns an error if a behaviour is neither empty nor in the table.
func known[K ~string, V any](field string, behaviour K, table map[K]V) error {
	if _, ok := table[behaviour]; ok || behaviour == "" {
		return nil
	}
	return fmt.Errorf("testservice: Settings.%s: no behaviour is named %q", field, behaviour)
}
