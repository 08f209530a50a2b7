//go:build unix

package state

import (
	"errors"
	"strings"
	"testing"
)

// stuck is a value whose methods do not return until release is closed.
type stuck struct{ begun, release chan struct{} }

func newStuck() *stuck { return &stuck{make(chan struct{}), make(chan struct{})} }

func (v *stuck) MarshalBinary() ([]byte, error) {
	v.begun <- struct{}{}
	<-v.release
	return []byte("late"), nil
}

func (v *stuck) UnmarshalBinary([]byte) error {
	v.begun <- struct{}{}
	<-v.release
	return errors.New("late")
}

// No lock is held while a method of a value hangs in Snapshot, Receive or Keep. Meanwhile Keep of other values and Err return.
func TestHangingValueHoldsNoLock(t *testing.T) {
	f := snapshotOf(t, map[string]Value{"stuck": &text{s: "x"}})
	for name, call := range map[string]func(k *Keeper, v Value){
		"Snapshot": func(k *Keeper, v Value) {
			k.Keep("stuck", v)
			if f, _, err := k.Snapshot(nil); err != nil {
				t.Error(err)
			} else {
				f.Close()
			}
		},
		"Receive": func(k *Keeper, v Value) {
			k.Keep("stuck", v)
			if err := k.Receive(f); err == nil || !strings.Contains(err.Error(), "late") {
				t.Error(err)
			}
		},
		"Keep": func(k *Keeper, v Value) {
			if err := k.Receive(f); err != nil {
				t.Error(err)
			}
			k.Keep("stuck", v)
			if err := k.Err(); err == nil || !strings.Contains(err.Error(), "late") {
				t.Errorf("the value has refused: %v", err)
			}
		},
	} {
		k, v := NewKeeper(1<<20), newStuck()
		done := make(chan struct{})
		go func() { // the goroutine ends when release is closed
			defer close(done)
			call(k, v)
		}()
		<-v.begun
		free := k.mu.TryLock()
		if free {
			k.mu.Unlock()
			k.Keep("another", &text{})
		}
		if !free || k.Err() != nil {
			t.Errorf("%s: the lock is free: %v", name, free)
		}
		close(v.release)
		<-done
	}
}
