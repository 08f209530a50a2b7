//go:build linux

package main_test

import (
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// The new echo gets its share of the calls, and every call that chooses it by its metadata.
func TestNewEchoGetsItsShare(t *testing.T) {
	s := startServer(t, "-canary", "0.3")
	client := echopb.NewEchoClient(s.dial())
	count := map[string]int{}
	const calls = 1000
	for range calls {
		r, err := client.Say(t.Context(), &echopb.SayRequest{Text: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		count[r.GetText()]++
	}
	if n := count["HELLO"]; n < calls/5 || n > calls*2/5 || n+count["hello"] != calls {
		t.Errorf("%v", count)
	}
	for value, want := range map[string]string{"true": "HELLO", "false": "hello"} {
		for range 20 {
			r, err := client.Say(metadata.AppendToOutgoingContext(t.Context(), "canary", value), &echopb.SayRequest{Text: "hello"})
			if err != nil || r.GetText() != want {
				t.Fatalf("canary: %s: %v, %v", value, r, err)
			}
		}
	}
	st := s.state().Canary
	if st.Weight != 0.3 || st.Canary.Forced != 20 || st.Stable.Forced != 20 || st.Canary.Requests != uint64(count["HELLO"]+20) {
		t.Errorf("%+v", st)
	}
	s.stop()
}
