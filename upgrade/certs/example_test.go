package certs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/midair-go/midair/upgrade/certs"
)

// With package upgrade the value is kept and checked as well:
//
//	up.Keep("tls", tc)
//	up.Check("tls", tc.Ready)
func Example() {
	tc, err := certs.Open("cert.pem", "key.pem", certs.Options{
		Config: &tls.Config{MinVersion: tls.VersionTLS13},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tc.Close()
	srv := &http.Server{Addr: "127.0.0.1:0", TLSConfig: tc.Config()}
	srv.Close() // instead of a life of serving
	fmt.Println(srv.ListenAndServeTLS("", ""))
	// Output: http: Server closed
}

// Files that are missing are a state: they are served as soon as they are there. A program that would rather not start
// without them can tell.
func ExampleCerts_Ready() {
	tc, err := certs.Open("/nowhere/cert.pem", "/nowhere/key.pem", certs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tc.Close()
	err = tc.Ready(context.Background())
	fmt.Println(errors.Is(err, certs.ErrNoCertificate), err)
	// Output: true certs: /nowhere/cert.pem: there is no such file
}
