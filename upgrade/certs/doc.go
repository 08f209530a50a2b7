// Package certs serves TLS with a certificate that is renewed while the program runs. Its session tickets outlive the process:
// after an upgrade clients resume their sessions instead of making a full handshake.
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
// a symbolic link, as certbot and Kubernetes do. [Certs] look at the files every second. They load the files if the certificate
// and the key fit together, and if the certificate is valid now. Otherwise the last good certificate is served: a missing or
// broken file does not end the service. [Certs.Status] and the log report what is wrong with the files. If no certificate is
// valid now, a certificate that has expired or is not valid yet is served, and [Certs.Ready] returns an error.
//
// A look sees a change even if the new files have the size and the time of the old files, as files from two archives can have:
// it also compares the device, the inode and the ctime. A change that keeps all of these is found by the content, which is read
// about every 10 seconds, or by [Certs.Reload] at once. Examples are a write through mapped memory, and a file system without a
// ctime. If a file system needs more than 10 ms for the two files, they are read less often, but at least every 10 minutes.
//
// # Tickets
//
// A client sends a ticket in order to resume a session. The keys for tickets are random. Every 24 hours a new key begins to
// encrypt. Each key is accepted until 7 days after its begin, as in crypto/tls. The key of the next day is made one day early,
// and passes to the next process with the other keys. So two processes that serve side by side begin to use the key at the same
// moment, and each process accepts the tickets of the other.
//
// Tickets do not depend on the certificate: a server with a new certificate goes on accepting old tickets. A client may make a
// full handshake nevertheless. For example, a client with crypto/tls does so when the certificate of its session has expired or
// is no longer trusted.
//
// The keys are in memory only. So clients make a full handshake after a restart that is no upgrade, and after a crash of all
// processes.
//
// # Upgrades
//
// Certs are a value for Keep of package upgrade. Ticket keys pass from process to process, and they are secrets: an attacker
// with the ticket keys can decrypt recorded TLS 1.2 connections that used these keys.
//
// The certificate and its key do not pass: a new process reads the two files itself. If this fails, the check with Ready fails,
// and the upgrade is aborted. So the problem is found during the upgrade, and not at the next restart.
//
// # Goroutines
//
// All methods may be called from any goroutine. Open starts a goroutine, unless Options.Poll is negative. Close ends the
// goroutine and waits for its end. A handshake never waits for a file.
package certs
