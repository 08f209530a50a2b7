//go:build unix

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// links returns links over the two ends of a control socket. The links are closed at the end of the test.
func links(t testing.TB) (here, there *Link) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	return linkOver(t, ours), linkOver(t, theirs)
}

// linkOver returns a link over a descriptor of a control socket. The link is closed at the end of the test.
func linkOver(t testing.TB, file *os.File) *Link {
	t.Helper()
	w, err := NewSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLink(w)
	t.Cleanup(l.Close)
	return l
}

// ended waits until a link has no more frames, and returns the kinds of the frames that came.
func ended(l *Link) (kinds []Kind) {
	for f := range l.Frames {
		kinds = append(kinds, f.Kind)
		f.Close()
	}
	return kinds
}

// The receiver gets the same message that was sent, with its descriptors. The sender's descriptors stay open.
func TestMessageCarriesItsDescriptors(t *testing.T) {
	here, there := links(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := errors.Join(here.Send(KindWelcome, WelcomeBody{From: "v1"}, w, w), here.TrySend(KindConn, ConnBody{Slot: 7}, w, 0)); err != nil {
		t.Fatal(err)
	}
	var welcome WelcomeBody
	first, second := <-there.Frames, <-there.Frames
	if err := first.Decode(&welcome); err != nil || first.Kind != KindWelcome || welcome.From != "v1" || len(first.Files) != 2 || len(second.Files) != 1 {
		t.Fatalf("%v %+v with %d files, then %d, %v", first.Kind, welcome, len(first.Files), len(second.Files), err)
	}
	for i, f := range []*os.File{first.Files[0], first.Files[1], second.Files[0], w} {
		b := make([]byte, 1)
		if _, err := f.Write([]byte{byte(i)}); err != nil {
			t.Errorf("descriptor %d: %v", i, err)
		} else if _, err := io.ReadFull(r, b); err != nil || b[0] != byte(i) {
			t.Errorf("descriptor %d: %d, %v", i, b[0], err)
		}
	}
	first.Close()
	second.Close()
}

// If several goroutines send, each message arrives whole, and the messages of each goroutine arrive in order. This holds for
// every method that sends.
func TestSendersDoNotMix(t *testing.T) {
	here, there := links(t)
	const senders, each = 4, 100
	var sending sync.WaitGroup
	for id := range senders {
		sending.Go(func() {
			for i := range each {
				body := DialedBody{ID: id, Error: strings.Repeat("x", i)}
				err := here.Send(KindDialed, body)
				if id%2 == 0 && err == nil {
					err = here.SendWithin(KindDialed, body, nil, sendLimit)
				}
				if err != nil {
					t.Errorf("sender %d: %v", id, err)
					return
				}
			}
		})
	}
	go func() { // the goroutine ends when the senders have ended
		sending.Wait()
		here.Close()
	}()
	next := map[int]int{}
	for f := range there.Frames {
		var body DialedBody
		if err := f.Decode(&body); err != nil {
			t.Fatal(err)
		}
		times := 1 + (body.ID+1)%2
		if want := next[body.ID] / times; len(body.Error) != want {
			t.Fatalf("sender %d: message %d comes, want %d", body.ID, len(body.Error), want)
		}
		next[body.ID]++
	}
	for id := range senders {
		if want := each * (1 + (id+1)%2); next[id] != want {
			t.Errorf("sender %d: %d messages, want %d", id, next[id], want)
		}
	}
}

// If AllowMissing is on, a frame of KindConn may come without its descriptor. Otherwise such a frame ends the link. A missing
// descriptor of another kind of message always ends the link.
func TestMissingDescriptorIsAllowedForConnections(t *testing.T) {
	for _, c := range []struct {
		kind  Kind
		allow bool
		ends  bool
	}{{KindConn, true, false}, {KindConn, false, true}, {KindShare, true, true}} {
		here, there := links(t)
		there.AllowMissing(c.allow)
		b, err := Encode(c.kind, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(here.wire.Send(b, nil), here.Send(KindBeat, nil)); err != nil {
			t.Fatal(err)
		}
		here.Close()
		want := []Kind{c.kind, KindBeat}
		if c.ends {
			want = nil
		}
		if got := ended(there); !slices.Equal(got, want) || errors.Is(there.Broken, ErrMissing) != c.ends {
			t.Errorf("%v, allowed %v: %v, %v", c.kind, c.allow, got, there.Broken)
		}
	}
	if !errors.Is(ErrMissing, ErrFrame) {
		t.Error("a missing descriptor is not a broken frame")
	}
}

// When the peer ends, its last messages still arrive, and then Frames is closed and Broken is nil. Sending returns an error for
// which Gone is true.
func TestEndOfThePeerIsNoFault(t *testing.T) {
	here, there := links(t)
	if err := there.Send(KindHurry, nil); err != nil {
		t.Fatal(err)
	}
	there.Close()
	if got := ended(here); !slices.Equal(got, []Kind{KindHurry}) || here.Broken != nil {
		t.Errorf("%v, %v", got, here.Broken)
	}
	for name, err := range map[string]error{
		"Send": here.Send(KindBeat, nil), "TrySend": here.TrySend(KindBeat, nil, nil, 0), "SendWithin": here.SendWithin(KindBeat, nil, nil, sendLimit),
	} {
		if !Gone(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	here.Close()
	here.Close()
	if err := here.Send(KindBeat, nil); err == nil || Gone(err) {
		t.Errorf("over a closed link: %v", err)
	}
	if Gone(nil) {
		t.Error("no error means that the peer is gone")
	}
}

// After Quit, later messages can be received by another descriptor of the same end. This process can still send.
func TestSocketOutlivesQuit(t *testing.T) {
	here, there := links(t)
	if err := there.Send(KindHurry, nil); err != nil {
		t.Fatal(err)
	}
	if f := <-here.Frames; f.Kind != KindHurry {
		t.Fatalf("%v came", f.Kind)
	}
	dup, err := here.Dup()
	if err != nil {
		t.Fatal(err)
	}
	here.Quit()
	if got := ended(here); len(got) > 0 || here.Broken != nil {
		t.Errorf("%v, %v", got, here.Broken)
	}
	if err := errors.Join(here.Send(KindBeat, nil), there.Send(KindShut, nil)); err != nil {
		t.Error(err)
	}
	if f := <-there.Frames; f.Kind != KindBeat {
		t.Errorf("%v came", f.Kind)
	}
	here.Close()
	successor := linkOver(t, dup)
	if f := <-successor.Frames; f.Kind != KindShut {
		t.Errorf("%v came", f.Kind)
	}
}

// If a transport lacks the optional methods, TrySend, SendWithin and Dup return errors.ErrUnsupported, and Quit does nothing.
func TestSimpleTransportSaysWhatItLacks(t *testing.T) {
	l := NewLink(&wiretest.Transport{})
	defer l.Close()
	dup, err := l.Dup()
	for name, err := range map[string]error{
		"TrySend": l.TrySend(KindBeat, nil, nil, 0), "SendWithin": l.SendWithin(KindBeat, nil, nil, 0), "Dup": err,
	} {
		if !errors.Is(err, errors.ErrUnsupported) || dup != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.Quit()
}

// No method sends a message that is too large. The next message is sent.
func TestTooLargeMessageIsNotSent(t *testing.T) {
	here, there := links(t)
	body := FailedBody{Reason: strings.Repeat("x", frameLimit)}
	for name, err := range map[string]error{
		"Send": here.Send(KindFailed, body), "TrySend": here.TrySend(KindFailed, body, nil, 0), "SendWithin": here.SendWithin(KindFailed, body, nil, 0),
	} {
		if err == nil || !strings.Contains(err.Error(), "are more than") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := here.Send(KindBeat, nil); err != nil {
		t.Fatal(err)
	}
	if f := <-there.Frames; f.Kind != KindBeat {
		t.Errorf("%v came", f.Kind)
	}
}

// Close closes the frames that were not taken from Frames, with their descriptors.
func TestCloseClosesWhatNobodyHasTaken(t *testing.T) {
	seen := wiretest.NewWitness(t)
	here, there := links(t)
	for range 5 {
		if err := here.Send(KindReturned, nil, seen.Lend(1)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.Send(KindBeat, nil); err != nil {
		t.Fatal(err)
	}
	here.Close()
	testutil.Until(t, sendLimit, "the frames", func() bool { return len(there.Frames) == 6 })
	there.Close()
	seen.MustBeGone(t)
}

// If the file is no unix socket, NewSocket returns an error that describes the file. It closes the file in any case.
func TestNewSocketNeedsAUnixSocket(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	before := testutil.OpenFDs()
	fd, _, err := sys.Duplicate(udp.(*net.UDPConn))
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[*os.File]string{null: "control socket: ", os.NewFile(uintptr(fd), "udp"): "control socket: is a udp socket, not a unix one"} {
		if w, err := NewSocket(file); w != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, %v, want %q", w, err, want)
		}
		if err := file.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: the file is open", file.Name())
		}
	}
	if now := testutil.OpenFDs(); len(now) != len(before)-1 {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
}
