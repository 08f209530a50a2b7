package canary_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
)

// A canary finds the trailers of a request when it has read the body, with Rescue as without, and so does the stable handler
// after it, whether the client has announced them or not.
func TestTrailersOfARequestReachBothHandlers(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for _, rescue := range []*canary.Rescue{nil, {Also: func(*http.Request) bool { return true }}} {
			var seen []string
			h := func(name string) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					seen = append(seen, fmt.Sprint(name, r.Trailer))
					if fails && name == "canary" && rescue != nil {
						panic("the canary is bad")
					}
				})
			}
			srv := httptest.NewServer(canary.NewRouter(h("stable"), h("canary"), canary.Options{Weight: canary.Fixed(1), Rescue: rescue, Logger: quiet}))
			for _, announced := range []string{"", "Trailer: Sum\r\n"} {
				seen = nil
				c, err := net.Dial("tcp", srv.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nSum: 42\r\n\r\n", announced)
				if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
					t.Fatal(err)
				}
				c.Close()
				want := "[canarymap[Sum:[42]]]"
				if fails && rescue != nil {
					want = "[canarymap[Sum:[42]] stablemap[Sum:[42]]]"
				}
				if got := fmt.Sprint(seen); got != want {
					t.Errorf("the handlers find %s, want %s (announced: %q)", got, want, announced)
				}
			}
			srv.Close()
		}
	}
}
