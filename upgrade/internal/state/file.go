package state

import (
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

// begin returns the first bytes of a file with the given number of entries.
func begin(entries int) []byte {
	return binary.BigEndian.AppendUint32(format.Begin(), uint32(entries))
}

func appendEntry(b []byte, name string, data []byte) []byte {
	return kept.Append64(kept.Append32(b, name), data)
}

// write makes a sealed file with b and the checksum of b. The caller has made b with begin and appendEntry. The caller closes
// the file.
func write(b []byte) (*os.File, error) {
	f, err := sys.MemFile("midair-state")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(format.Seal(b))
	if err == nil {
		err = sys.Seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write state: %w", err)
	}
	return f, nil
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
	b, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return decode(b)
}

// errRest means that there are bytes after the last entry. No version of this package writes such bytes. A new version that has
// more to write adds an entry.
var errRest = errors.New("bytes after the last entry")

func decode(b []byte) (map[string][]byte, error) {
	r := format.Open(b)
	values := map[string][]byte{}
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		name := string(r.Bytes32())
		values[name] = r.Bytes64()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("read %w", err)
	}
	if r.Left() > 0 {
		return nil, fmt.Errorf("read %w", r.Damaged(errRest))
	}
	return values, nil
}

// argsLimit is the greatest size of a file of WriteBuild, in bytes. The kernel allows less for the arguments and the
// environment of a process together.
const argsLimit = 8 << 20

// WriteBuild writes the version, the arguments and, if known, the environment of a build to a sealed file. The caller closes
// the file.
func WriteBuild(b *process.Build) (*os.File, error) {
	data := begin(2)
	if b.Env != nil {
		data = begin(3)
	}
	data = appendEntry(data, "version", []byte(b.Version))
	data = appendEntry(data, "args", []byte(strings.Join(b.Args, "\x00"))) // no argument has a zero byte
	if b.Env != nil {
		data = appendEntry(data, "env", []byte(strings.Join(b.Env, "\x00")))
	}
	return write(data)
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
