package flags_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
)

// kept is what a generation with the content hands on, read after all that were opened before.
func kept(t testing.TB, content string) []byte {
	t.Helper()
	data, err := serve(t, content).MarshalBinary()
	check(t, err)
	return data
}

// A new process that finds the file broken or missing serves what the old one served, is ready, and says that it is
// stale and why. When the file is good it is served.
func TestKeptValuesServeWhileFileIsBroken(t *testing.T) {
	for content, part := range map[string]string{"": "no such file", "{": "ends in the middle", `{"flags": {"cart": 1}}`: "must be an object"} {
		var j journal
		data := kept(t, file("on"))
		path := filepath.Join(t.TempDir(), "flags.json")
		if content != "" {
			write(t, path, content)
		}
		f := open(t, path, flags.Options{Logger: j.logger()})
		weight := f.Weight("w", 0)
		h := f.BoolFlag("cart", false)
		mustBe(t, "before", cart(f), "default")
		check(t, f.UnmarshalBinary(data))
		mustBe(t, "kept", cart(f), "on")
		mustBe(t, "kept, by handle", h.Get(context.Background()), true)
		check(t, f.Ready(context.Background()))
		s := f.Status()
		mustHold(t, s.State, "stale: ", part)
		if aFlag := strings.HasPrefix(content, "{\"flags"); s.Kept == aFlag || s.Source == path && !aFlag || s.Error == "" {
			t.Errorf("%+v", s)
		}
		f.Check()
		mustBe(t, "after a look", cart(f), "on")
		mustHold(t, f.Status().State, "stale: ", part)
		write(t, path, number("0.5"))
		f.Check()
		mustBe(t, "the weight of the good file", weight(), 0.5)
		mustBe(t, "the state", f.Status().State, "ready")
		mustBe(t, "refusals", f.Status().Refusals, 1)
	}
}

// A file that is good comes before what was kept, whatever is older, also if the poller has not seen it yet.
func TestGoodFileComesBeforeKept(t *testing.T) {
	f, path := served(t, file("off"), flags.Options{})
	check(t, f.UnmarshalBinary(kept(t, file("on"))))
	mustBe(t, "the file", cart(f), "off")
	mustBe(t, "kept", f.Status().Kept, false)
	write(t, path, "{")
	f.Check()
	data := kept(t, file("off"))
	write(t, path, file("on"))
	check(t, f.UnmarshalBinary(data))
	mustBe(t, "the file that nobody has looked at", cart(f), "on")
}

// Of two contents without a good file, the one that was read later is served: what comes at the commit replaces what
// came at the start, and what comes back on an abort does not replace what is newer here.
func TestLaterContentWinsWhileFileIsBroken(t *testing.T) {
	first, second := kept(t, file("off")), kept(t, file("on"))
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	for i, c := range []struct {
		data []byte
		want string
	}{{first, "off"}, {first, "off"}, {second, "on"}, {first, "on"}, {second, "on"}} {
		check(t, f.UnmarshalBinary(c.data))
		if got := cart(f); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
	mustBe(t, "loads", f.Status().Loads, 2)
}

// What was kept is handed on once more, with the time and the path of the process that read it.
func TestKeptIsHandedOn(t *testing.T) {
	data := kept(t, file("on"))
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	check(t, f.UnmarshalBinary(data))
	again, err := f.MarshalBinary()
	check(t, err)
	if !bytes.Equal(again, data) {
		t.Errorf("%q, want %q", again, data)
	}
}

// A generation without values hands on that it has none, which changes nothing.
func TestNothingKeptChangesNothing(t *testing.T) {
	data, err := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{}).MarshalBinary()
	check(t, err)
	f, path := served(t, file("on"), flags.Options{})
	check(t, os.Remove(path))
	check(t, f.UnmarshalBinary(data))
	mustBe(t, "the flag", cart(f), "on")
	empty := open(t, path, flags.Options{})
	check(t, empty.UnmarshalBinary(data))
	if empty.Ready(context.Background()) == nil {
		t.Error("ready without values")
	}
}

// The same content from the file is no longer kept.
func TestFileWithKeptContentEndsStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	f := open(t, path, flags.Options{})
	check(t, f.UnmarshalBinary(kept(t, file("on"))))
	write(t, path, file("on"))
	f.Check()
	s := f.Status()
	if s.State != "ready" || s.Kept || s.Source != path || s.Loads != 1 {
		t.Errorf("%+v", s)
	}
}

// The bytes are those of the builds that are in use: what they sent is taken, and sent on without a change.
func TestOlderAndNewerBuildsUnderstandEachOther(t *testing.T) {
	const (
		content = "7b22666c616773223a207b2263617274223a207b227374617465223a2022454e41424c4544222c202276617269616e7473223a20" +
			"7b226f6e223a20747275652c20226f6666223a2066616c73657d2c202264656661756c7456617269616e74223a20226f6e227d7d7d"
		golden = "6d69646169722d666c61677300" + "01" + "1886caf21c963206" + "00000014" + "2f6574632f73686f702f666c6167732e6a736f6e" +
			"00000069" + content + "946e05a117436a8297e4974e7e9d9035e634f015c582a4a918a75fdc15ba816c"
		empty = "6d69646169722d666c61677300" + "01" + "0000000000000000" + "00000000" + "00000000" +
			"1cbecfcf76f6cd6b28e288009a6d50544fb13104168501bccf9525e13e1c3315"
	)
	for _, c := range []struct{ golden, serves string }{{empty, "default"}, {golden, "on"}} {
		data, err := hex.DecodeString(c.golden)
		check(t, err)
		f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
		check(t, f.UnmarshalBinary(data))
		mustBe(t, "the flag", cart(f), c.serves)
		again, err := f.MarshalBinary()
		check(t, err)
		mustBe(t, "sent on", hex.EncodeToString(again), c.golden)
	}
}

// resum puts the right sum under changed data.
func resum(data []byte) []byte {
	body := bytes.Clone(data[:len(data)-sha256.Size])
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}

// Damaged data is refused, whichever byte it is, and changes nothing.
func TestDamagedDataIsRefused(t *testing.T) {
	data := kept(t, file("on"))
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x40
		if f.UnmarshalBinary(bad) == nil {
			t.Fatalf("byte %d changed: taken", i)
		}
		if f.UnmarshalBinary(data[:i]) == nil {
			t.Fatalf("cut at %d: taken", i)
		}
		if i > 14 && i < len(data)-sha256.Size && f.UnmarshalBinary(resum(append(bytes.Clone(data[:i]), data[len(data)-sha256.Size:]...))) == nil {
			t.Fatalf("cut at %d with the right sum: taken", i)
		}
	}
	mustBe(t, "the flag", cart(f), "default")
}

// A later version may add to the format, and has another version if it changes it; then its data is of no use here,
// which is an error only for a process that has nothing else.
func TestOtherVersionsOfTheFormat(t *testing.T) {
	data := kept(t, file("on"))
	longer := resum(append(bytes.Clone(data[:len(data)-sha256.Size]), append([]byte("\x00\x00\x00\x02{}more"), data[len(data)-sha256.Size:]...)...))
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	newer := bytes.Clone(data)
	newer[len("midair-flags\x00")]++
	err := f.UnmarshalBinary(resum(newer))
	if err == nil {
		t.Fatal("an unknown version: taken")
	}
	mustHold(t, err.Error(), "of a later format", "version 2, this process reads up to 1")
	check(t, f.UnmarshalBinary(longer))
	mustBe(t, "the flag", cart(f), "on")
	var j journal
	good, _ := served(t, file("off"), flags.Options{Logger: j.logger()})
	check(t, good.UnmarshalBinary(resum(newer)))
	mustBe(t, "the flag", cart(good), "off")
	mustHold(t, strings.Join(j.lines(), "\n"), "not taken from the other generation")
}

// Content that this version of the library cannot compile is an error only for a process that has nothing else.
func TestKeptContentThatIsNotUnderstood(t *testing.T) {
	data := bytes.Replace(kept(t, file("on")), []byte(`{"flags"`), []byte(`["flags"`), 1)
	data = resum(data)
	f, path := served(t, file("off"), flags.Options{})
	write(t, path, "{")
	check(t, f.UnmarshalBinary(data))
	mustBe(t, "the flag", cart(f), "off")
	empty := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	err := empty.UnmarshalBinary(data)
	if err == nil {
		t.Fatal("taken")
	}
	mustHold(t, err.Error(), "another generation read from", "not valid JSON")
}

// Values may be handed over at any time: beside evaluations, looks at the file and themselves.
func TestHandoverBesideEverythingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	f := open(t, path, flags.Options{})
	datas := [][]byte{kept(t, file("on")), kept(t, file("off"))}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 50 {
				check := f.UnmarshalBinary(datas[(i+n)%2])
				if check != nil {
					t.Error(check)
				}
				if _, err := f.MarshalBinary(); err != nil {
					t.Error(err)
				}
				f.Bool(context.Background(), "cart", false)
				f.Check()
				_ = f.Ready(context.Background())
				f.BoolFlag("cart", false).Get(context.Background())
			}
		})
	}
	all.Wait()
	mustBe(t, "the flag", cart(f), "off")
}

// An edit that the poller has not seen yet goes to the new process as well: both serve by the same file.
func TestKeptIsWhatTheFileSaysNow(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{Poll: time.Hour})
	write(t, path, file("off"))
	data, err := f.MarshalBinary()
	check(t, err)
	if !bytes.Contains(data, []byte(file("off"))) {
		t.Error("the content from before the edit was handed on")
	}
}

// A file of Open that is an overlay in the next build has its content there, and the new file of Open does not get the content. A
// file of Open with another path goes on with the content.
func TestTheFileOfOpenChangesItsPlace(t *testing.T) {
	dir := t.TempDir()
	base, other := filepath.Join(dir, "flags.json"), filepath.Join(dir, "other.json")
	write(t, base, set(text("a", "base")))
	data, err := open(t, base, flags.Options{}).MarshalBinary()
	check(t, err)
	write(t, base, "{")
	write(t, other, "{")
	options := flags.Options{Defaults: []byte(set(text("a", "built in"))), Overlays: []string{base}}
	overlay, moved := open(t, other, options), open(t, other, flags.Options{})
	check(t, overlay.UnmarshalBinary(data))
	check(t, moved.UnmarshalBinary(data))
	ctx := context.Background()
	mustBe(t, "the overlay", overlay.String(ctx, "a", ""), "base")
	mustBe(t, "the number of contents", overlay.Status().Loads, 1)
	mustBe(t, "where the content of the file of Open comes from", overlay.Status().Source, "")
	mustBe(t, "the file of Open with another path", moved.String(ctx, "a", ""), "base")
}
