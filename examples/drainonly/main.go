// Drainonly is a service that is replaced by its platform, as in Kubernetes: it does not upgrade itself, and loses no
// request when it is told to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on")
	propagation := flag.Duration("propagation", 5*time.Second, "how long load balancers need to notice")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	srv := drain.NewServer(&http.Server{Addr: *addr, Handler: mux}, drain.Options{Propagation: *propagation})
	mux.Handle("GET /readyz", srv.Readiness())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	if err := srv.ListenAndServe(ctx); err != nil {
		log.Fatal(err)
	}
}
