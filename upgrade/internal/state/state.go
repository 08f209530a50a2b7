package state

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
)

// Value is a value that is kept.
type Value interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// Keeper holds the named values of a program and what an older generation sent for them.
type Keeper struct {
	limit int64

	mu       sync.Mutex
	names    []string // in the order of Keep
	values   map[string]Value
	received map[string][]byte
	refused  error // the first value that did not take its data, or a name used twice
}

func NewKeeper(limit int64) *Keeper {
	return &Keeper{limit: limit, values: map[string]Value{}}
}

// Keep adds a value and restores it at once if there is something for it.
func (k *Keeper) Keep(name string, v Value) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.values[name]; ok {
		k.Refuse(fmt.Errorf("keep %q: the name is used twice", name))
		return
	}
	k.names = append(k.names, name)
	k.values[name] = v
	if data, ok := k.received[name]; ok {
		k.Refuse(restore(name, v, data))
	}
}

func (k *Keeper) Refuse(err error) {
	if k.refused == nil {
		k.refused = err
	}
}

// Err is the reason not to get prepared, if there is one.
func (k *Keeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Receive takes the state of another generation: every value that is known is restored, the others when they are kept.
// All values are tried, and the first refusal is returned.
func (k *Keeper) Receive(file *os.File) error {
	data, err := readState(file, k.limit)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.received = data
	k.mu.Unlock()
	names, values := k.kept()
	var errs []error
	for _, name := range names {
		if b, ok := data[name]; ok {
			errs = append(errs, restore(name, values[name], b))
		}
	}
	return errors.Join(errs...)
}

// kept copies what there is, so that the program's methods are not called under a lock: one that hangs must not keep the
// other side of the protocol from going on.
func (k *Keeper) kept() ([]string, map[string]Value) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.names), maps.Clone(k.values)
}

// Forget drops what was received: the program is up, and nothing is kept later.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.received = nil
}

// Snapshot writes all values to a sealed file; nil if there are none.
func (k *Keeper) Snapshot() (*os.File, error) {
	names, values := k.kept()
	if len(names) == 0 {
		return nil, nil
	}
	b := appendStateHeader(nil, len(names))
	for _, name := range names {
		var data []byte
		err := guard.Call(func() (err error) {
			data, err = values[name].MarshalBinary()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("keep %q: %w", name, err)
		}
		b = appendStateEntry(b, name, data)
		if int64(len(b)) > k.limit {
			return nil, fmt.Errorf("keep %q: its %d bytes bring the state to %d bytes, more than StateLimit %d",
				name, len(data), len(b), k.limit)
		}
	}
	return writeState(b)
}

func restore(name string, v Value, data []byte) error {
	err := guard.Call(func() error { return v.UnmarshalBinary(bytes.Clone(data)) })
	if err != nil {
		return fmt.Errorf("keep %q refuses what the other generation sent (%d bytes): %w", name, len(data), err)
	}
	return nil
}

// The file with state: a magic that names the version, the number of entries, each entry as name and data with their
// lengths before them, and a SHA-256 sum of all that. Numbers are big endian.
const stateMagic = "midair\x00\x01"

func appendStateHeader(b []byte, entries int) []byte {
	b = append(b, stateMagic...)
	return binary.BigEndian.AppendUint32(b, uint32(entries))
}

func appendStateEntry(b []byte, name string, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(data)))
	return append(b, data...)
}

func writeState(b []byte) (*os.File, error) {
	f, err := sys.MemFile("midair-state")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	_, err = f.Write(append(b, sum[:]...))
	if err == nil {
		err = sys.Seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write state: %w", err)
	}
	return f, nil
}

func readState(f *os.File, limit int64) (map[string][]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if info.Size() > limit+sha256.Size {
		return nil, fmt.Errorf("read state: %d bytes are more than StateLimit %d", info.Size(), limit)
	}
	if err := sys.CheckSeal(f); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return decodeState(b)
}

var errState = errors.New("read state: damaged, or written by an unknown version of the library")

func decodeState(b []byte) (map[string][]byte, error) {
	body := len(b) - sha256.Size
	if body < len(stateMagic)+4 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, errState
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil, errState
	}
	d := decoder{b: b[len(stateMagic):body]}
	values := map[string][]byte{}
	for n := d.uint32(); n > 0 && !d.bad; n-- {
		name := string(d.take(uint64(d.uint32())))
		values[name] = d.take(d.uint64())
	}
	if d.bad || len(d.b) != 0 {
		return nil, errState
	}
	return values, nil
}

// argsLimit is more than the kernel lets a process be started with.
const argsLimit = 8 << 20

// WriteBuild writes what goes with the executable of a build to a sealed file. The caller closes it.
func WriteBuild(version string, args []string) (*os.File, error) {
	b := appendStateHeader(nil, 2)
	b = appendStateEntry(b, "version", []byte(version))
	b = appendStateEntry(b, "args", []byte(strings.Join(args, "\x00"))) // no argument has a zero byte
	return writeState(b)
}

// ReadBuild reads what writeBuild of any process wrote.
func ReadBuild(f *os.File) (version string, args []string, err error) {
	values, err := readState(f, argsLimit)
	if err != nil {
		return "", nil, err
	}
	return string(values["version"]), strings.Split(string(values["args"]), "\x00"), nil
}

// decoder reads from b until something is not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	head := d.b[:n:n]
	d.b = d.b[n:]
	return head
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
