// Package state passes named values of a program from an old process to a new one, and back: a Keeper asks the values for
// their bytes and restores them, and a sealed file carries the bytes of all of them, in the format of package kept.
//
// The program's methods are called without a lock, since they may hang, and a panic of theirs is an error.
package state

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/midair-go/midair/internal/guard"
)

// Value is a value that is kept.
type Value interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// Keeper holds the named values of a program, and the bytes that an older generation sent for the values.
type Keeper struct {
	limit int64
	room  func(make func()) // calls make, which needs a descriptor

	mu       sync.Mutex
	names    []string // in the order of Keep
	values   map[string]Value
	received map[string][]byte
	refused  error // the first value that did not take its data, or a name used twice
}

// NewKeeper makes a Keeper without values. limit is how much all values may take together, in bytes.
func NewKeeper(limit int64) *Keeper {
	return &Keeper{limit: limit, room: func(make func()) { make() }, values: map[string]Value{}}
}

// MakeIn makes the file of a snapshot in calls to room. MakeIn is called before the other methods.
func (k *Keeper) MakeIn(room func(make func())) { k.room = room }

// Keep adds a value and restores the value at once if there are bytes for it.
func (k *Keeper) Keep(name string, v Value) {
	data, ok := k.add(name, v)
	if ok {
		k.Refuse(restore(name, v, data))
	}
}

// add notes a value, and returns the bytes that were received for the value.
func (k *Keeper) add(name string, v Value) (data []byte, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, twice := k.values[name]; twice {
		k.refuse(fmt.Errorf("keep %q: the name is used twice", name))
		return nil, false
	}
	k.names = append(k.names, name)
	k.values[name] = v
	data, ok = k.received[name]
	return data, ok
}

// Refuse notes a reason for Err, if there is none yet. nil is no reason.
func (k *Keeper) Refuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse(err)
}

// refuse is Refuse with the lock held.
func (k *Keeper) refuse(err error) {
	if k.refused == nil {
		k.refused = err
	}
}

// Err is the reason not to get prepared; nil if there is none.
func (k *Keeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Receive takes the state of another generation: every value that is known is restored, the others when they are kept.
// All values are tried, and the first refusal is returned.
func (k *Keeper) Receive(file *os.File) error {
	data, err := read(file, k.limit)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.received = data
	names, values := k.kept()
	k.mu.Unlock()
	var errs []error
	for _, name := range names {
		if b, ok := data[name]; ok {
			errs = append(errs, restore(name, values[name], b))
		}
	}
	return errors.Join(errs...)
}

// kept copies the values, so that the program's methods are not called under the lock, which is held here: a method that hangs
// must not keep the other side of the protocol from going on.
func (k *Keeper) kept() ([]string, map[string]Value) {
	return slices.Clone(k.names), maps.Clone(k.values)
}

// Forget drops the received bytes: the program is up, and no value is kept later.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.received = nil
}

// Snapshot writes all values to a sealed file; nil if there are none.
func (k *Keeper) Snapshot() (*os.File, error) {
	k.mu.Lock()
	names, values := k.kept()
	k.mu.Unlock()
	if len(names) == 0 {
		return nil, nil
	}
	b := begin(len(names))
	for _, name := range names {
		var data []byte
		err := guard.Call(func() (err error) {
			data, err = values[name].MarshalBinary()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("keep %q: %w", name, err)
		}
		b = appendEntry(b, name, data)
		if int64(len(b)) > k.limit {
			return nil, fmt.Errorf("keep %q: its %d bytes bring the state to %d bytes, more than StateLimit %d",
				name, len(data), len(b), k.limit)
		}
	}
	var file *os.File
	var err error
	k.room(func() { file, err = write(b) })
	return file, err
}

func restore(name string, v Value, data []byte) error {
	err := guard.Call(func() error { return v.UnmarshalBinary(bytes.Clone(data)) })
	if err != nil {
		return fmt.Errorf("keep %q refuses what the other generation sent (%d bytes): %w", name, len(data), err)
	}
	return nil
}
