package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
)

// format is the format of a file with state. The file has the number of entries, and then the entries. An entry has the length
// of a name, the name, the length of the data, and the data.
var format = kept.Format{Name: "state", Magic: "midair\x00", Version: 1}

// headSize is the number of bytes before the first entry.
var headSize = int64(len(head(0)))

// head returns the beginning of a file with the given number of entries.
func head(entries int) []byte {
	return binary.BigEndian.AppendUint32(format.Begin(), uint32(entries))
}

// partSize is the number of bytes of a value that are written or read at once. Between two parts other goroutines can run: a
// longer call that copies memory or computes a checksum would delay the garbage collector, and with it all goroutines.
const partSize = 128 << 10

// entry is the bytes of a value, under its name.
type entry struct {
	name string
	data []byte
}

// head returns the bytes before the data.
func (e entry) head() []byte {
	return binary.BigEndian.AppendUint64(kept.Append32(nil, e.name), uint64(len(e.data)))
}

// write makes a sealed file with the entries. The caller closes the file.
func write(entries []entry) (*os.File, error) {
	f, err := sys.MemFile("midair-state")
	if err != nil {
		return nil, err
	}
	if err = fill(f, entries); err == nil {
		err = sys.Seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write state: %w", err)
	}
	return f, nil
}

// fill writes the entries and their checksum. It makes no copy of the data of an entry.
func fill(w io.Writer, entries []entry) error {
	out, sum := bufio.NewWriter(w), format.Sum.New()
	both := io.MultiWriter(out, sum)
	// The errors are not read before Flush, because out keeps its first error, and Flush returns it.
	both.Write(head(len(entries)))
	for _, e := range entries {
		both.Write(e.head())
		for part := range slices.Chunk(e.data, partSize) {
			both.Write(part)
		}
	}
	out.Write(sum.Sum(nil))
	return out.Flush()
}

// read returns the entries of a file. It checks the file, because any process may have written it. limit is the greatest size
// of the state in bytes, without the checksum.
func read(f *os.File, limit int64) (map[string][]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if info.Size() > limit+int64(format.Sum.Size()) {
		return nil, fmt.Errorf("read state: %d bytes are more than StateLimit %d", info.Size(), limit)
	}
	if err := sys.CheckSeal(f); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return decode(f, info.Size())
}

var (
	// errRest means that there are bytes after the last entry. No version of this package writes such bytes. A new version that
	// has more to write adds an entry.
	errRest  = errors.New("bytes after the last entry")
	errShort = errors.New("the last entry is not complete")
)

// decode returns the entries of a file of the given size. The data of each entry has memory of its own.
func decode(file io.ReaderAt, size int64) (map[string][]byte, error) {
	body, err := format.OpenAt(file, size)
	if err != nil {
		return nil, fmt.Errorf("read %w", err)
	}
	b := &reader{in: bufio.NewReader(body), left: uint64(body.Size())}
	values := map[string][]byte{}
	for n := b.number(4); n > 0 && b.err == nil; n-- {
		name := string(b.take(b.number(4)))
		values[name] = b.take(b.number(8))
	}
	if b.err == nil && b.left > 0 {
		b.err = format.Body(nil).Damaged(errRest)
	}
	if b.err != nil {
		return nil, fmt.Errorf("read %w", b.err)
	}
	return values, nil
}

// reader reads the fields of a file from front to back. After an error all fields are empty.
type reader struct {
	in   io.Reader
	left uint64 // the number of bytes that were not read
	err  error
}

// take reads n bytes.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > r.left {
		r.err = format.Body(nil).Damaged(errShort)
	}
	if r.err != nil {
		return nil
	}
	b := make([]byte, n)
	for part := range slices.Chunk(b, partSize) {
		if _, err := io.ReadFull(r.in, part); err != nil {
			r.err = fmt.Errorf("state: %w", err)
			return nil
		}
	}
	r.left -= n
	return b
}

// number reads a number of size bytes.
func (r *reader) number(size uint64) (n uint64) {
	for _, b := range r.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

// argsLimit is the greatest size of a file of WriteBuild, in bytes. The kernel allows less for the arguments and the
// environment of a process together.
const argsLimit = 8 << 20

// WriteBuild writes the version, the arguments and, if known, the environment of a build to a sealed file. The caller closes
// the file.
func WriteBuild(b *process.Build) (*os.File, error) {
	entries := []entry{
		{"version", []byte(b.Version)},
		{"args", []byte(strings.Join(b.Args, "\x00"))}, // no argument has a zero byte
	}
	if b.Env != nil {
		entries = append(entries, entry{"env", []byte(strings.Join(b.Env, "\x00"))})
	}
	return write(entries)
}

// ReadBuild reads a file that WriteBuild has written, in this or another process. The returned build has no executable.
func ReadBuild(f *os.File) (*process.Build, error) {
	values, err := read(f, argsLimit)
	if err != nil {
		return nil, err
	}
	b := &process.Build{Version: string(values["version"]), Args: strings.Split(string(values["args"]), "\x00")}
	if env, ok := values["env"]; ok {
		b.Env = slices.DeleteFunc(strings.Split(string(env), "\x00"), func(v string) bool { return v == "" })
	}
	return b, nil
}
