package follow_test

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/follow"
)

// A stamp is believed 2 seconds after a look has seen it first, whatever the times of the file are. Until then each look reads
// the content.
func TestStampIsBelievedWhenItHasSettled(t *testing.T) {
	for name, at := range map[string]time.Time{"old": old, "now": time.Now(), "in a hundred years": old.AddDate(100, 0, 0)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := follows(t, "one")
				must(t, os.Chtimes(f.Path, at, at))
				sees(t, f, "")
				for range 4 {
					if f.Believes() {
						t.Error("the stamp is believed too early")
					}
					time.Sleep(follow.Settle / 4)
					sees(t, f, "")
				}
				if !f.Believes() {
					t.Error("the stamp is not believed after 2 s")
				}
				must(t, os.Chtimes(f.Path, at, at.Add(time.Second)))
				sees(t, f, "")
				if f.Believes() {
					t.Error("a new stamp is believed at once")
				}
			})
		})
	}
}

// Within the bound, the content of a file with the same stamp is read exactly once. In the test a read takes no time.
func TestContentIsReadNowAndThen(t *testing.T) {
	settled(t, "one", func(t *testing.T, f *follow.File) {
		for range 3 {
			time.Sleep(follow.RestMin - time.Nanosecond)
			if !f.Believes() {
				t.Error("the content is read too early")
			}
			sees(t, f, "")
			time.Sleep(time.Nanosecond)
			if f.Believes() {
				t.Error("the content is not read in time")
			}
			sees(t, f, "")
		}
	})
}

// The time between two reads keeps their share at 0.1 %, but is at least 10 s and at most 10 min.
func TestReadsTakeASmallShareOfTheTime(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: follow.RestMin, time.Millisecond: follow.RestMin, 10 * time.Millisecond: 10 * time.Second,
		25 * time.Millisecond: 25 * time.Second, 600 * time.Millisecond: 10 * time.Minute, time.Minute: follow.RestMax,
		1 << 62: follow.RestMax, -time.Second: follow.RestMin,
	} {
		if got := follow.Rest(took); got != want {
			t.Errorf("after a read of %v the next one is due in %v, want %v", took, got, want)
		}
	}
}

// With always, a look reads the content, and says whether it is new.
func TestLookMayReadAlways(t *testing.T) {
	settled(t, "one", func(t *testing.T, f *follow.File) {
		f.Pretend("zero")
		sees(t, f, "")
		content, fresh, err := f.Look(true)
		if string(content) != "one" || !fresh || err != nil {
			t.Errorf("Look returns %q, %v, %v", content, fresh, err)
		}
		if content, fresh, err := f.Look(true); content != nil || fresh || err != nil {
			t.Errorf("the same content again: Look returns %q, %v, %v", content, fresh, err)
		}
	})
}

// A change that keeps the stamp is found after 10 s. From then on each look reads the content again until the stamp has settled
// once more, because nothing tells whether the change was complete.
func TestChangeThatKeepsTheStampIsFound(t *testing.T) {
	settled(t, "one", func(t *testing.T, f *follow.File) {
		f.Pretend("zero")
		for range 9 {
			time.Sleep(time.Second)
			sees(t, f, "")
		}
		time.Sleep(time.Second)
		sees(t, f, "one")
		if f.Believes() {
			t.Error("the stamp is believed at once")
		}
		f.Pretend("half")
		sees(t, f, "one")
		settle(t, f)
	})
}

// An empty file has a content: it is new once.
func TestEmptyFileIsContent(t *testing.T) {
	f := follows(t, "one")
	truncates(0)(t, f.Path)
	if content, fresh, err := f.Look(false); len(content) != 0 || !fresh || err != nil {
		t.Errorf("Look returns %q, %v, %v", content, fresh, err)
	}
	sees(t, f, "")
}

// The caller may change the content that it got.
func TestContentBelongsToTheCaller(t *testing.T) {
	f := follows(t, "one")
	write(t, f.Path, "two")
	content, _, err := f.Look(false)
	must(t, err)
	clear(content)
	sees(t, f, "")
	write(t, f.Path, "one")
	sees(t, f, "one")
}

// A file that changes while it is read is not taken, even if its size stays the same.
func TestChangeDuringAReadIsFound(t *testing.T) {
	for name, change := range map[string]func(*testing.T, string){
		"longer": writes("one and more"), "shorter": truncates(2), "empty": truncates(0),
		"same size": writes("two"), "same size, time": all(writes("two"), ages),
	} {
		if name == "same size, time" && runtime.GOOS == "windows" {
			continue // files have no ctime here
		}
		f := follows(t, "one")
		ages(t, f.Path)
		if err := f.ReadWhile(func() { change(t, f.Path) }); !errors.Is(err, follow.ErrWriting) {
			t.Errorf("%s: the read returns %v", name, err)
		}
	}
	f := follows(t, "one")
	must(t, f.ReadWhile(func() {}))
}

// A file may have MaxSize bytes and no more.
func TestMaxSizeIsTheLimit(t *testing.T) {
	const limit = 4 << 20
	f := follows(t, "one")
	f.MaxSize = limit
	truncates(limit)(t, f.Path)
	if content, fresh, err := f.Look(false); len(content) != limit || !fresh || err != nil {
		t.Errorf("a file of the greatest size: %d bytes, %v, %v", len(content), fresh, err)
	}
	truncates(limit+1)(t, f.Path)
	fails(t, f, "it has 4194305 bytes, more than 4194304")
}
