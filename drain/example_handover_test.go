package drain_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain"
)

// replaced is the cause of a context that ends because another process serves the same socket.
type replaced struct{}

func (replaced) Error() string  { return "replaced" }
func (replaced) Handover() bool { return true }

// In an upgrade, the cause of the context says that the stop is a handover. So there is no time as a lame duck, and load
// balancers see no change.
func Example_handover() {
	ctx, end := context.WithCancelCause(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := drain.NewServer(&http.Server{}, drain.Options{Propagation: 5 * time.Second})
	end(replaced{})
	fmt.Println("Serve returned", srv.Serve(ctx, ln))
	fmt.Println("phase", srv.Status().Phase)
	// Output:
	// Serve returned <nil>
	// phase drained
}
