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
// The two files may be replaced at any time, together or one after the other, by a rename, in place or by a link that is
// moved, as certbot and Kubernetes do. [Certs] look at them every second and take a pair that fits together and is valid
// now. Until then the last good one is served, so a file that is missing or broken is a state and not an error:
// [Certs.Ready], [Certs.Status] and the log say what is wrong. If there is nothing better, a pair that fits but has expired
// is served as well, and Ready says so.
//
// # Tickets
//
// A ticket is what a client shows to resume. Keys are random; a new one encrypts every 24 hours, and each is accepted for 7
// days from then on, as crypto/tls does it by itself. The key of the next day exists beforehand and passes on with the
// others: two processes that serve side by side change to it at the same moment, and each accepts the tickets of the other.
//
// Tickets do not depend on the certificate: a server goes on accepting them when it has a new one. Clients may give up
// resuming earlier; those of crypto/tls do when the certificate that they had seen expires, or is not trusted any more.
//
// The keys live in memory only: after a restart that is no upgrade, and after a crash of every process, clients make a
// full handshake.
//
// # Upgrades
//
// Certs are a value for Keep of package upgrade. What passes on are the ticket keys and not the certificate: its private
// key is in the file, and a new process that cannot read it is not ready and taken back, instead of finding out at the
// next restart. Whoever has ticket keys can read recorded TLS 1.2 connections that used them.
//
// # Goroutines
//
// All methods may be called from any goroutine. Open starts one goroutine, unless Options.Poll is negative; Close ends it
// and waits for that. A handshake reads atomic values and never waits for a file.
package certs
