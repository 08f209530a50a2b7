package kept_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

// formats are two layouts like those in use: with either checksum, and with or without a zero byte in the magic.
var formats = []kept.Format{
	{Name: "lamps", Magic: "midair-lamps\x00", Version: 3},
	{Name: "birds", Magic: "birds", Version: 3, Sum: kept.CRC32},
}

// full returns a state with a field of each kind.
func full(f kept.Format) []byte {
	b := kept.AppendTime(f.Begin(), time.Unix(1, 2))
	b = kept.Append16(b, []byte("sixteen"))
	b = kept.Append32(b, "thirty-two")
	b = kept.Append64(b, []byte("sixty-four"))
	return f.Seal(append(b, 0, 16, 0, 0, 0, 32, 'r', 'a', 'w'))
}

// fields reads the fields that full has written.
func fields(r *kept.Reader) (got []string) {
	at := r.Time()
	got = append(got, string(r.Bytes16()), string(r.Bytes32()), string(r.Bytes64()))
	if r.Uint16() == 16 && r.Uint32() == 32 && at.Equal(time.Unix(1, 2)) {
		got = append(got, "numbers")
	}
	return append(got, string(r.Take(3)))
}

// A Reader returns every field as it was written.
func TestFieldsComeBack(t *testing.T) {
	for _, f := range formats {
		r := f.Open(full(f))
		want := []string{"sixteen", "thirty-two", "sixty-four", "numbers", "raw"}
		if got := fields(r); !slices.Equal(got, want) || r.Err() != nil || r.Left() != 0 || r.Version() != 3 {
			t.Errorf("%s: %q, %v, %d bytes left, version %d", f.Name, got, r.Err(), r.Left(), r.Version())
		}
	}
}

// The bytes of a state never change, because builds that are in use read them: magic, version, fields with big endian lengths,
// checksum.
func TestTheLayoutStays(t *testing.T) {
	const body = "000000003b9aca02" + "0007" + "7369787465656e" + "0000000a" + "7468697274792d74776f" +
		"000000000000000a" + "73697874792d666f7572" + "0010" + "00000020" + "726177"
	for i, want := range []string{
		"6d69646169722d6c616d707300" + "03" + body + "af933f4c9897e2eb8492a9f627314bfb2e00906b908298a7eb8bc950818db01f",
		"6269726473" + "03" + body + "bba3ea50",
	} {
		if got := hex.EncodeToString(full(formats[i])); got != want {
			t.Errorf("%s: %s", formats[i].Name, got)
		}
	}
}

// OpenAt returns the place of the body that a state has in a file. If the file cannot be read, the error tells the reason, and the
// state is not called damaged.
func TestBodyIsFoundInAFile(t *testing.T) {
	for _, f := range formats {
		for _, size := range []int{0, 1, 128<<10 - 1, 128 << 10, 300 << 10} {
			want := bytes.Repeat([]byte("body"), size/4+1)[:size]
			data := f.Seal(append(f.Begin(), want...))
			body, err := f.OpenAt(bytes.NewReader(append(data, "behind it"...)), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, want %d: %v", f.Name, len(got), size, err)
			}
			sum := f.Sum.New()
			sum.Write(data[:len(data)-f.Sum.Size()])
			if !bytes.HasSuffix(data, sum.Sum(nil)) {
				t.Errorf("%s: a checksum in parts is another one", f.Name)
			}
			for _, n := range []int{0, 3, len(data) - 1} { // the file is shorter than it was when its size was read
				if _, err := f.OpenAt(bytes.NewReader(data[:n]), int64(len(data))); err == nil || errors.Is(err, kept.ErrDamaged) || errors.Is(err, kept.ErrForeign) {
					t.Errorf("%s: %d of %d bytes: %v", f.Name, n, len(data), err)
				}
			}
		}
	}
}

// A state with a changed bit, or with missing bytes at the end, is refused. The error is never ErrLater.
func TestDamageIsRefused(t *testing.T) {
	for _, f := range formats {
		good := full(f)
		bad := [][]byte{append(bytes.Clone(good), 0)}
		for i := range good {
			flipped := bytes.Clone(good)
			flipped[i] ^= 0x40
			bad = append(bad, flipped, good[:i])
		}
		for _, data := range bad {
			r := f.Open(data)
			err := r.Err()
			if _, errAt := f.OpenAt(bytes.NewReader(data), int64(len(data))); errAt == nil || errAt.Error() != err.Error() {
				t.Fatalf("%s: %q: %v, and from a file %v", f.Name, data, err, errAt)
			}
			if !errors.Is(err, kept.ErrDamaged) && !errors.Is(err, kept.ErrForeign) || errors.Is(err, kept.ErrLater) {
				t.Fatalf("%s: %q: %v", f.Name, data, err)
			}
			if got := strings.Join(fields(r), ""); got != "" || r.Err() != err || r.Left() != 0 {
				t.Fatalf("%s: %q was read from %q", f.Name, got, data)
			}
		}
	}
}

// The error of a refused state has the reason and the name of the Format, and says what an operator can do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	f, other := formats[0], formats[1]
	damaged := full(f)
	damaged[20]++
	later, never := f, f
	later.Version, never.Version = 4, 0
	for _, c := range []struct {
		data  []byte
		is    error
		parts string
	}{
		{full(other), kept.ErrForeign, "not of this kind|under a name of its own"},
		{nil, kept.ErrForeign, "not of this kind"},
		{damaged, kept.ErrDamaged, "damaged"},
		{never.Seal(never.Begin()), kept.ErrDamaged, "damaged"},
		{full(later), kept.ErrLater, "of a later format|version 4, this process reads up to 3"},
	} {
		err := f.Open(c.data).Err()
		if _, errAt := f.OpenAt(bytes.NewReader(c.data), int64(len(c.data))); err == nil || errAt == nil || errAt.Error() != err.Error() {
			t.Errorf("%q: %v, and from a file %v", c.data, err, errAt)
		}
		for _, sentinel := range []error{kept.ErrForeign, kept.ErrDamaged, kept.ErrLater} {
			if errors.Is(err, sentinel) != (sentinel == c.is) {
				t.Errorf("%q: %v, want %v", c.data, err, c.is)
			}
		}
		for _, part := range strings.Split(c.parts+"|lamps: the state|stop and start the service once", "|") {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not say %q", err, part)
			}
		}
	}
}

// A newer build reads the states of all older versions, and Version returns the version of the state.
func TestOlderVersionsAreRead(t *testing.T) {
	for version := byte(1); version <= 3; version++ {
		old := formats[0]
		old.Version = version
		if r := formats[0].Open(full(old)); r.Err() != nil || r.Version() != version {
			t.Errorf("version %d: %d, %v", version, r.Version(), r.Err())
		}
	}
}

// An older reader stops before the fields that a later build has appended. A newer reader finds out by Left that these fields
// are missing.
func TestLaterFieldsAreLeftAlone(t *testing.T) {
	f := formats[0]
	older := kept.Append32(f.Begin(), "known")
	newer := f.Seal(kept.Append32(bytes.Clone(older), "later"))
	r := f.Open(newer)
	if string(r.Bytes32()) != "known" || r.Err() != nil || r.Left() == 0 {
		t.Errorf("%v, %d bytes left", r.Err(), r.Left())
	}
	r = f.Open(f.Seal(older))
	if string(r.Bytes32()) != "known" || r.Err() != nil || r.Left() != 0 {
		t.Errorf("%v, %d bytes left", r.Err(), r.Left())
	}
}

// A read of a missing field leads to ErrDamaged, and all later reads return nothing.
func TestAMissingFieldEndsTheReading(t *testing.T) {
	f := formats[0]
	for name, take := range map[string]func(r *kept.Reader) int{
		"time":    func(r *kept.Reader) int { return int(r.Time().Unix()) },
		"bytes16": func(r *kept.Reader) int { return len(r.Bytes16()) },
		"bytes32": func(r *kept.Reader) int { return len(r.Bytes32()) },
		"bytes64": func(r *kept.Reader) int { return len(r.Bytes64()) },
		"uint16":  func(r *kept.Reader) int { r.Take(6); return int(r.Uint16()) },
		"uint32":  func(r *kept.Reader) int { r.Take(4); return int(r.Uint32()) },
		"uint64":  func(r *kept.Reader) int { return int(r.Uint64()) },
		"take":    func(r *kept.Reader) int { return len(r.Take(1 << 63)) },
	} {
		r := f.Open(f.Seal(append(f.Begin(), 255, 255, 255, 255, 255, 255, 255)))
		if n := take(r); n != 0 || !errors.Is(r.Err(), kept.ErrDamaged) || r.Left() != 0 || r.Take(1) != nil {
			t.Errorf("%s: %d, %v, %d bytes left", name, n, r.Err(), r.Left())
		}
	}
}

// A list inside a field is read like a body. The error of a damaged list has the name of the Format too.
func TestAListInsideAFieldIsRead(t *testing.T) {
	f := formats[0]
	list := kept.Append16(kept.Append16(nil, []byte("a")), []byte("bc"))
	outer := f.Open(f.Seal(kept.Append32(f.Begin(), list)))
	inner := f.Body(outer.Bytes32())
	if a, b := string(inner.Bytes16()), string(inner.Bytes16()); a != "a" || b != "bc" || inner.Left() != 0 || inner.Err() != nil {
		t.Errorf("%q, %q, %d bytes left, %v", a, b, inner.Left(), inner.Err())
	}
	if got := inner.Bytes16(); got != nil || !errors.Is(inner.Err(), kept.ErrDamaged) || !strings.HasPrefix(inner.Err().Error(), "lamps: ") {
		t.Errorf("%q, %v", got, inner.Err())
	}
}

// An append to a slice that a Reader has returned changes neither the data nor the next field.
func TestFieldsDoNotOverlap(t *testing.T) {
	f := formats[0]
	data := f.Seal(kept.Append32(kept.Append32(f.Begin(), "first"), "second"))
	before := bytes.Clone(data)
	r := f.Open(data)
	_ = append(r.Bytes32(), "xxxxxxxx"...)
	_ = append(r.Take(uint64(r.Left())), "yyyyyyyy"...)
	if !bytes.Equal(data, before) {
		t.Errorf("%q became %q", before, data)
	}
}

// The list of named values that a process sends can be written in this format. The bytes are the same as those of the builds
// before package kept existed.
func TestAListOfEntriesComesBackInOrder(t *testing.T) {
	const golden = "6d69646169720001" + "00000002" + "00000005" + "6669727374" + "0000000000000003" + "6f6e65" +
		"00000000" + "0000000000000000" + "ac40cc41fb10143f02dbc5027eb7c7d5a1fff3fd4769d04e72637c1fd5effc82"
	f := kept.Format{Name: "upgrade", Magic: "midair\x00", Version: 1}
	b := binary.BigEndian.AppendUint32(f.Begin(), 2)
	b = kept.Append64(kept.Append32(b, "first"), []byte("one"))
	b = f.Seal(kept.Append64(kept.Append32(b, ""), nil))
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("%s", got)
	}
	r := f.Open(b)
	var got []string
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		got = append(got, string(r.Bytes32()), string(r.Bytes64()))
	}
	if want := []string{"first", "one", "", ""}; !slices.Equal(got, want) || r.Err() != nil || r.Left() != 0 {
		t.Errorf("%q, %v", got, r.Err())
	}
}

// A Reader does not copy the data: a returned field is a part of the data.
func TestReadingCopiesNothing(t *testing.T) {
	f := formats[0]
	data := f.Seal(kept.Append32(f.Begin(), make([]byte, 1<<20)))
	r := f.Open(data)
	if field := r.Bytes32(); len(field) != 1<<20 || &field[0] != &data[len(f.Magic)+5] {
		t.Errorf("a field of %d bytes elsewhere", len(field))
	}
}

// No data make Open or a Reader panic. If Open accepts the data, Seal of the same body returns the same data.
func FuzzOpen(f *testing.F) {
	for i, format := range formats {
		f.Add(full(format), byte(i), false)
		f.Add([]byte(format.Magic+"\x03\xff\xff\xff\xff"), byte(i), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, which byte, seal bool) {
		format := formats[int(which)%len(formats)]
		if seal {
			data = format.Seal(data)
		}
		r := format.Open(data)
		if r.Err() != nil {
			if r.Left() != 0 {
				t.Fatal("an error and a body")
			}
			return
		}
		again := format
		again.Version = r.Version()
		body := format.Open(data).Take(uint64(r.Left()))
		if b := again.Seal(append(again.Begin(), body...)); !bytes.Equal(b, data) {
			t.Fatalf("%x was sealed again to %x", data, b)
		}
		if taken := len(strings.Join(fields(r), "")); taken > len(body)+len("numbers") {
			t.Fatalf("%d bytes of %d", taken, len(body))
		}
	})
}
