package wire

import (
	"strings"
	"testing"
)

// A clipped reason of any bytes fits into a frame, and ends with dots. A short reason is not changed.
func TestClippedReasonFitsIntoAFrame(t *testing.T) {
	for _, r := range []string{"a", "\x00", "\"", "<", "\xff", "ü", "\u2028"} {
		for _, n := range []int{0, 1, 100, 4 << 10, 5 << 10, 1 << 20} {
			reason := strings.Repeat(r, n)
			clipped := Clip(reason)
			if short := len(reason) <= 4<<10; short && clipped != reason || !short && (!strings.HasSuffix(clipped, "...") || !strings.HasPrefix(reason, strings.TrimSuffix(clipped, "..."))) {
				t.Errorf("%d times %q has become %d bytes", n, r, len(clipped))
			}
			if _, err := Encode(KindFailed, FailedBody{Phase: "a phase", Reason: clipped, Aborted: true}, 0); err != nil {
				t.Errorf("%d times %q: %v", n, r, err)
			}
		}
	}
}

// Overlap returns nil if two processes speak a common version of the protocol. Otherwise its error has both ranges and advice.
func TestOverlapOfVersions(t *testing.T) {
	for _, c := range []struct {
		low, high int
		ok        bool
	}{
		{ProtocolMin, ProtocolMax, true}, {ProtocolMax, ProtocolMax + 5, true}, {0, ProtocolMin, true}, {0, ProtocolMax + 5, true},
		{ProtocolMin, ProtocolMin, true}, {ProtocolMax + 1, ProtocolMax + 2, false}, {ProtocolMin - 2, ProtocolMin - 1, false},
	} {
		err := Overlap(c.low, c.high)
		if (err == nil) != c.ok {
			t.Errorf("%d to %d: %v", c.low, c.high, err)
		}
	}
	err := Overlap(7, 9)
	if err == nil || !strings.Contains(err.Error(), "speaks versions 7 to 9 of the control protocol, this process 4 to 4: upgrade to a release in between first") {
		t.Error(err)
	}
}

// If the body is not the JSON of its message, Decode returns an error with the name of the message. If there is no body, Decode
// changes nothing.
func TestDecodeNamesTheMessage(t *testing.T) {
	about := ConnBody{Network: "tcp"}
	for body, want := range map[string]string{"": "", "{}": "", "{": "control message conn: ", `{"network":1}`: "control message conn: "} {
		err := Frame{Kind: KindConn, Body: []byte(body)}.Decode(&about)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) || about.Network != "tcp" {
			t.Errorf("%q: %v, %+v", body, err, about)
		}
	}
	if _, err := Encode(KindConn, func() {}, 0); err == nil {
		t.Error("what is no JSON is encoded")
	}
}
