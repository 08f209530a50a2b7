//go:build unix

package wire

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// Fit returns how many sockets one message can name and carry, and at least 1. A message with so many sockets can be encoded.
func TestFitIsWhatAMessageHolds(t *testing.T) {
	long := strings.Repeat("\x01", 108) // each byte becomes six bytes in JSON
	for _, c := range []struct {
		addr      string
		n         int
		low, high int
	}{
		{":1", 0, 0, 0}, {":1", 1, 1, 1}, {":1", 5, 5, 5}, {":1", 1000, 60, sys.MaxFiles}, {long, 1000, 1, 60}, {strings.Repeat("x", 40000), 2, 1, 1},
	} {
		names, links := make([]SocketName, c.n), make([]PathLink, c.n)
		for i := range names {
			names[i], links[i] = SocketName{"listener", "unix", c.addr}, PathLink{c.addr + ".midair-0123456789abcdef", 1 << 60, 1 << 60}
		}
		for _, links := range [][]PathLink{nil, links} {
			n := Fit(names, links)
			if links == nil && n < c.low || n > c.high || n == 0 && c.n > 0 {
				t.Errorf("%d of %d fit", n, c.n)
			}
			late := make([]int, n) // the largest message: all sockets are late
			for i := range late {
				late[i] = i
			}
			body := ListenersBody{Total: 1 << 40, Names: names[:n], Links: links[:min(len(links), n)], Late: late}
			if _, err := Encode(KindListeners, body, n); err != nil && len(c.addr) < 1000 {
				t.Error(err)
			}
		}
	}
}

// Messages that only name sockets (KindTakes) are not limited by the number of descriptors. A few messages name all sockets, in
// the same order.
func TestNamesAloneAreNotLimitedByDescriptors(t *testing.T) {
	for _, size := range []int{1, 108} {
		var b TakesBody
		for i := range 5000 {
			b.Listeners = append(b.Listeners, SocketName{"listener", "tcp", strconv.Itoa(i) + strings.Repeat("x", size)})
			if i%2 == 0 {
				b.Plain = append(b.Plain, i)
			}
		}
		var got TakesBody
		parts := 0
		for part, rest := b.Cut(); len(part.Listeners) > 0; part, rest = rest.Cut() {
			if _, err := Encode(KindTakes, part, 0); err != nil || len(part.Listeners) < sys.MaxFiles/2 && len(rest.Listeners) > 0 {
				t.Errorf("a part of %d names: %v", len(part.Listeners), err)
			}
			for _, i := range part.Plain {
				got.Plain = append(got.Plain, len(got.Listeners)+i)
			}
			got.Listeners = append(got.Listeners, part.Listeners...)
			parts++
		}
		if !slices.Equal(got.Listeners, b.Listeners) || !slices.Equal(got.Plain, b.Plain) || parts > 40 {
			t.Errorf("%d parts have %d names, %d of them plain", parts, len(got.Listeners), len(got.Plain))
		}
	}
}

// A message that was queued before the receiver runs arrives whole, with all descriptors. The sender's descriptors stay open.
func TestQueuedMessageWaitsForItsReader(t *testing.T) {
	seen := wiretest.NewWitness(t)
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]SocketName, 50)
	lent := slices.Repeat([]int{int(sys.FD(seen.Lend(1)[0]))}, 50)
	if err := Queue(ours, KindListeners, ListenersBody{Total: 50, Names: names}, lent); err != nil {
		t.Fatal(err)
	}
	ours.Close() // the death of the sender
	w, err := NewSocket(theirs)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLink(w)
	f := <-l.Frames
	var body ListenersBody
	if err := f.Decode(&body); err != nil || f.Kind != KindListeners || body.Total != 50 || len(f.Files) != 50 {
		t.Errorf("%v, %d files, %+v, %v", f.Kind, len(f.Files), body.Total, err)
	}
	f.Close()
	if _, ok := <-l.Frames; ok || l.Broken != nil {
		t.Errorf("the link goes on: %v", l.Broken)
	}
	l.Close()
	seen.MustBeGone(t)
}

// A frame of KindListeners arrives even if descriptors are missing, because its receiver counts the sockets. In a frame of
// another kind, a missing descriptor ends the link.
func TestMissingListenersAreTheReceiversToCount(t *testing.T) {
	for kind, want := range map[Kind]bool{KindListeners: true, KindWelcome: false} {
		b, err := Encode(kind, nil, 3)
		if err != nil {
			t.Fatal(err)
		}
		seen := wiretest.NewWitness(t)
		got := receive(t, &wiretest.Transport{Pieces: [][]byte{b}, Files: [][]*os.File{{seen.File(t), seen.File(t)}}})
		if arrived := len(got) == 1 && len(got[0].Files) == 2; arrived != want {
			t.Errorf("%v: %v", kind, got)
		}
		for _, f := range got {
			f.Close()
		}
		seen.MustBeGone(t)
	}
}
