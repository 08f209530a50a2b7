// Package certs serves TLS with a certificate that is renewed while the program runs, and with session tickets that
// outlive the process: after an upgrade clients resume their sessions instead of making a full handshake.
//
//	tc, err := certs.Open("cert.pem", "key.pem", certs.Options{})
//	if err != nil {
//		return err
//	}
//	defer tc.Close()
//	up.Keep("tls", tc)        // ticket keys go from process to process
//	up.Check("tls", tc.Ready) // no certificate, no upgrade
//	srv := drain.NewServer(&http.Server{Handler: mux, TLSConfig: tc.Config()}, drain.Options{})
//	return up.Run(ctx, func(ctx context.Context) error { return srv.ServeTLS(ctx, ln, "", "") })
//
// # The certificate
//
// The two files may be replaced at any time, together or one after the other: by a rename, by writing in place, or by changing
// a symbolic link, as certbot and Kubernetes do. [Certs] look at the files every second, and load a certificate and a key that
// fit together and are valid now. Until the files contain such a pair, the last good certificate is served: a missing or broken
// file does not end the service, and [Certs.Ready], [Certs.Status] and the log report what is wrong. If there is no valid
// certificate, an expired certificate is served, and Ready reports this.
//
// # Tickets
//
// A client sends a ticket in order to resume a session. The keys for tickets are random. Every 24 hours a new key begins to
// encrypt, and each key is accepted for 7 days after its begin, as in crypto/tls. The key of the next day is made one day
// early and passes on with the other keys: two processes that serve side by side begin to use the key at the same moment, and
// each process accepts the tickets of the other.
//
// Tickets do not depend on the certificate: a server with a new certificate goes on accepting old tickets. A client may make
// a full handshake earlier: a client with crypto/tls does when the certificate of its session has expired, or is not trusted
// any more.
//
// The keys are in memory only: after a restart that is no upgrade, and after a crash of all processes, clients make a full
// handshake.
//
// # Upgrades
//
// Certs are a value for Keep of package upgrade. Ticket keys pass from process to process, and the certificate with its key
// does not: a new process reads the two files itself. If it cannot, it is not ready, and the upgrade is aborted: the problem
// is found now, and not at the next restart. An attacker with the ticket keys can decrypt recorded TLS 1.2 connections that
// used these keys.
//
// # Goroutines
//
// All methods may be called from any goroutine. Open starts a goroutine, unless Options.Poll is negative. Close ends the
// goroutine and waits for its end. A handshake reads atomic values, and never waits for a file.
package certs
