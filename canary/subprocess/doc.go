// Package subprocess runs the canary of a [canary.Router] in a process of its own. If the new handler crashes, leaks memory, or
// panics in another goroutine than that of the request, only this process ends. The stable handler answers, and the process is
// started again.
//
// The program of the new handler calls [Serve] in main:
//
//	err := subprocess.Serve(newCart)
//
// The service, which is the host, starts the program, and gives the requests of the canary to it:
//
//	cart, err := subprocess.Start(ctx, subprocess.Options{
//		Name: "cart-v2",
//		Cmd:  func() *exec.Cmd { return exec.Command("/opt/shop/cart-v2") },
//	})
//	…
//	defer cart.Close()
//	router := canary.NewRouter(oldCart, cart, canary.Options{
//		Weight: weight, Rescue: &canary.Rescue{Unserved: true},
//	})
//
// The program may be the same binary with another argument.
//
// # What a request can rely on
//
// A [Handler] passes requests on over HTTP, on a unix socket. The new handler sees the request as it came: method, path, Host,
// header, body, trailers and RemoteAddr; TLS is not nil if the client has used TLS. Streams, informational answers (1xx),
// trailers and WebSockets pass in both directions. When the client goes, the context of the request ends in the process, too.
//
// If there is no process, or the connection to the process ends before the answer has begun, the Handler calls [canary.GiveUp]:
// with Rescue, the stable handler answers a request that may run twice, and with Rescue.Unserved also a request that the process
// has not begun. When the process begins a request with a method such as POST, the process sends the status 102 to the host. So a
// request that a killed process has not read counts as not begun. A request that has begun, and may not run twice, is answered
// with 502. Without Rescue, and without a Router, all these requests are answered with 502. A panic of the handler in the process
// ends the connection of the client, unless the request is rescued. An answer of which the rest is missing ends the connection,
// too.
//
// # Life of the process
//
// [hashicorp/go-plugin] starts the process, agrees on the version of the protocol, and asks each second whether the process lives. A
// process that has ended is started again, after the first failure at once, and after further failures with a pause. A process
// that does not answer for [Options.Silence], or whose sockets were removed, is killed, and another process is started.
//
// [Handler.Replace] starts a second process, and stops the first one when its requests have ended. An upgrade of the host works
// in the same way: the new host starts a process of its own before it is ready, and the old host stops its process after it has
// drained. With package upgrade, call Start after New and before Run, and Close after Run: the example of Start shows it. If the
// process of a new host does not start, main returns without Run, and the upgrade is taken back.
//
// A process ends with its host, however the host ends: Serve returns [ErrHostEnded], and a process that does not serve yet gets
// SIGTERM. Only a process that is stopped by SIGSTOP at that moment stays. The next host with the same [Options.Dir] and Name
// kills it.
//
// If memory runs out, the kernel kills the process before the host: Serve sets the oom_score_adj of the process to 999.
//
// The process ignores SIGHUP, SIGINT and SIGTERM, which a terminal or a service manager may send to all processes of a service:
// the host drains then, and needs its process. The process writes its log to the file that is the standard error of the host.
//
// # Trust
//
// The sockets are in a directory with the mode 0700, and each of the two processes checks that the other one belongs to the same
// user. With [Options.Checksum], the program is copied into memory, and nobody can change the copy. The copy is checked, and
// runs.
//
// # Platforms
//
// Start and Serve work on Linux. On other systems they return an error that is [errors.ErrUnsupported].
//
// # Goroutines
//
// All methods of a Handler may be called from any goroutine. The goroutines of a Handler have ended when Close
// returns. The goroutines of Serve end with the process.
//
// [hashicorp/go-plugin]: https://github.com/hashicorp/go-plugin
package subprocess
