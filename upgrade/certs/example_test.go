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

// With package upgrade, Keep and Check get the value as well:
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
	srv.Close() // a real server would go on serving
	fmt.Println(srv.ListenAndServeTLS("", ""))
	// Output: http: Server closed
}

// Missing files are no error of Open: they are served as soon as they are there. If a program should not start without the
// files, it can call Ready.
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
