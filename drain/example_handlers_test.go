package drain_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain"
)

// A long poll ends with an answer when the drain begins. The client asks again, and reaches the next process.
func ExampleFromContext() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	events := make(chan string)
	srv := drain.NewServer(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go stop() // in the middle of a poll
		select {
		case e := <-events:
			fmt.Fprint(w, e)
		case <-drain.FromContext(r.Context()).Begun():
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	})}, drain.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- srv.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{}}
	res, err := client.Get("http://" + ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	res.Body.Close()
	client.CloseIdleConnections()
	fmt.Println(res.Status)
	fmt.Println("Serve returned", <-done)
	// Output:
	// 204 No Content
	// Serve returned <nil>
}

// A handler of a line protocol writes a last line of its protocol when the drain begins.
func ExampleServer_ServeTCP() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	srv := drain.NewServer(nil, drain.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- srv.ServeTCP(ctx, ln, func(ctx context.Context, nc net.Conn) {
			fmt.Fprintln(nc, "220 ready")
			<-drain.FromContext(ctx).Begun()
			fmt.Fprintln(nc, "421 the service is being replaced")
		})
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	for lines := bufio.NewScanner(nc); lines.Scan(); stop() {
		fmt.Println(lines.Text())
	}
	nc.Close()
	fmt.Println("Serve returned", <-done)
	// Output:
	// 220 ready
	// 421 the service is being replaced
	// Serve returned <nil>
}

// An admin listener drains after the service. In between, the measurements of the service are flushed. Both drains share one
// Grace.
func ExampleOptions() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	web := drain.NewServer(&http.Server{}, drain.Options{
		Grace: 25 * time.Second,
		Flush: func(context.Context) error { fmt.Println("flushed"); return nil },
	})
	admin := drain.NewServer(&http.Server{}, drain.Options{After: web})
	web.Go(ctx, "mails", func(ctx context.Context) {
		<-drain.FromContext(context.WithoutCancel(ctx)).Begun()
		fmt.Println("the last mail is out")
	})
	done := make(chan error)
	for _, s := range []*drain.Server{web, admin} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		go func() { done <- s.Serve(ctx, ln) }()
	}
	stop()
	<-done
	<-done
	report, _ := web.Report()
	fmt.Println("left:", len(report.Left), "admin:", admin.Status().Phase)
	// Output:
	// the last mail is out
	// flushed
	// left: 0 admin: drained
}
