package drain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/drain"
)

// A service in Kubernetes gets a signal when it has to stop. It goes on accepting until the load balancers have noticed the
// stop.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	srv := drain.NewServer(&http.Server{Addr: ":8080"}, drain.Options{Propagation: 5 * time.Second})
	http.Handle("/readyz", srv.Readiness())

	err := srv.ListenAndServe(ctx)
	var timeout *drain.TimeoutError
	if errors.As(err, &timeout) {
		for _, l := range timeout.Left {
			log.Printf("cut %s after %v: %s", l.Remote, time.Since(l.Since), l.Name)
		}
	}
}

// A job that began before the stop is finished during the drain.
func ExampleServer_Serve() {
	ctx, stop := context.WithCancel(context.Background())
	srv := drain.NewServer(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop() // in the middle of a request
		fmt.Fprint(w, "not lost")
	})}, drain.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- srv.Serve(ctx, ln) }()

	client := &http.Client{Transport: &http.Transport{}}
	res, err := client.Post("http://"+ln.Addr().String(), "text/plain", nil)
	if err != nil {
		log.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	client.CloseIdleConnections()
	fmt.Println(string(body))
	fmt.Println("Serve returned", <-done, "in phase", srv.Status().Phase)
	// Output:
	// not lost
	// Serve returned <nil> in phase drained
}

// As soon as the stop begins, the probe of a load balancer gets the answer 503.
func ExampleServer_Readiness() {
	mux := http.NewServeMux()
	srv := drain.NewServer(&http.Server{Handler: mux}, drain.Options{})
	mux.Handle("GET /readyz", srv.Readiness())
	probe := func() int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w.Code
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	fmt.Println("before:", probe())
	stop()
	fmt.Println("Serve returned", srv.Serve(ctx, ln))
	fmt.Println("after:", probe())
	// Output:
	// before: 200
	// Serve returned <nil>
	// after: 503
}
