// Package state passes named values of a program from an old process to a new process, and back. A Keeper asks each value for
// its bytes (MarshalBinary), and restores a value from bytes (UnmarshalBinary). The bytes of all values are passed in a sealed
// file, in the format of package kept.
//
// The methods of the program's values may hang, so they are called without a lock. If a method panics, the panic is returned as
// an error.
package state

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/midair-go/midair/internal/guard"
)

// Value is a value of the program that a Keeper passes to the next process.
type Value interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// Keeper holds the named values of a program, and the bytes that another generation has sent for these values.
type Keeper struct {
	limit int64
	room  func(make func()) // calls its argument when a descriptor is free, see MakeIn

	mu       sync.Mutex
	names    []string // the keys of values, in the order of the calls of Keep
	values   map[string]Value
	received map[string][]byte
	refused  error // the result of Err
}

// NewKeeper makes a Keeper without values. limit is the greatest size of the state in bytes, without the checksum.
func NewKeeper(limit int64) *Keeper {
	return &Keeper{limit: limit, room: func(make func()) { make() }, values: map[string]Value{}}
}

// MakeIn sets the function room. Snapshot needs a descriptor to make its file. So Snapshot calls room with a function that
// makes the file, and room must call this function when a descriptor is free. MakeIn must be called before the other methods.
func (k *Keeper) MakeIn(room func(make func())) { k.room = room }

// Keep adds a value. If Receive has received bytes for the value, Keep restores the value at once.
func (k *Keeper) Keep(name string, v Value) {
	data, ok := k.add(name, v)
	if ok {
		k.Refuse(restore(name, v, data))
	}
}

// add adds a value, and returns the bytes that were received for the value, which then belong to the caller. ok is false if
// there are no such bytes, or if the name is used twice.
func (k *Keeper) add(name string, v Value) (data []byte, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, twice := k.values[name]; twice {
		k.refuse(fmt.Errorf("keep %q: the name is used twice", name))
		return nil, false
	}
	k.names = append(k.names, name)
	k.values[name] = v
	return k.take(name)
}

// take returns the bytes that were received for a name. Afterwards the Keeper no longer has these bytes, so that the memory is free
// as soon as the value does not need them. The caller holds the lock.
func (k *Keeper) take(name string) (data []byte, ok bool) {
	data, ok = k.received[name]
	delete(k.received, name)
	return data, ok
}

// Refuse notes an error, which Err returns. It does nothing if err is nil, or if an error was noted before.
func (k *Keeper) Refuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse(err)
}

// refuse is Refuse for callers that hold the lock.
func (k *Keeper) refuse(err error) {
	if k.refused == nil {
		k.refused = err
	}
}

// Err returns the first error that Keep or Refuse has noted: for example, a value did not take its bytes, or a name was used
// twice. A process with such an error must not become prepared. Err returns nil if there is no error.
func (k *Keeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Receive takes the state of another generation from a file. It restores the values that were added before the call. Keep
// restores the values that are added later. A value is not restored if the file has no bytes for its name. Receive goes on after
// an error, and returns the errors of all values.
func (k *Keeper) Receive(file *os.File) error {
	received, err := read(file, k.limit)
	if err != nil {
		return err
	}
	k.mu.Lock()
	if k.received == nil {
		k.received = map[string][]byte{}
	}
	maps.Copy(k.received, received)
	clear(received) // k.received alone has the bytes, see take
	names, values := k.kept()
	k.mu.Unlock()
	var errs []error
	for _, name := range names {
		k.mu.Lock()
		data, ok := k.take(name)
		k.mu.Unlock()
		if ok {
			errs = append(errs, restore(name, values[name], data))
		}
	}
	return errors.Join(errs...)
}

// kept returns copies of the names and values. The caller holds the lock. The caller releases the lock before it calls methods
// of these values, because such a method may hang.
func (k *Keeper) kept() ([]string, map[string]Value) {
	return slices.Clone(k.names), maps.Clone(k.values)
}

// Forget drops the received bytes. It is called when no value needs these bytes any more.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.received = nil
}

// Snapshot writes the bytes of all values to a sealed file, and returns the marks of these bytes. If the receiver has an earlier
// snapshot, sent is the marks of that snapshot, and the file has only the values that have changed since. The file is nil if there
// are no such values.
func (k *Keeper) Snapshot(sent Marks) (*os.File, Marks, error) {
	k.mu.Lock()
	names, values := k.kept()
	k.mu.Unlock()
	var entries []entry
	marks, size := Marks{}, headSize
	for _, name := range names {
		data, m, err := marshal(values[name], sent[name])
		if err != nil {
			return nil, nil, fmt.Errorf("keep %q: %w", name, err)
		}
		if size += int64(len(entry{name: name}.head()) + m.size); size > k.limit {
			return nil, nil, fmt.Errorf("keep %q: its %d bytes bring the state to %d bytes, more than StateLimit %d", name, m.size, size, k.limit)
		}
		if marks[name] = m; m != sent[name] {
			entries = append(entries, entry{name, data})
		}
	}
	if len(entries) == 0 {
		return nil, marks, nil
	}
	var file *os.File
	var err error
	k.room(func() { file, err = write(entries) })
	return file, marks, err
}

// largeSize is the size of a value whose bytes are collected as soon as the value is restored. So this memory can be used again when
// the commit brings the value a second time.
const largeSize = 8 << 20

// restore calls UnmarshalBinary. The data belongs to the value.
func restore(name string, v Value, data []byte) error {
	size := len(data)
	if err := guard.Call(func() error { return v.UnmarshalBinary(data) }); err != nil {
		return fmt.Errorf("keep %q refuses what the other generation sent (%d bytes): %w", name, size, err)
	}
	if size >= largeSize {
		go runtime.GC() // ends when the collection does
	}
	return nil
}
