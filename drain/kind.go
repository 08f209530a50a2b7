package drain

import "net/http"

// A transport says whether a connection has TLS, and where the TLS is.
type transport uint8

const (
	plaintext  transport = iota // no TLS
	tlsAbove                    // net/http has put a *tls.Conn around the wrapper
	tlsInside                   // the listener gave a connection with TLS that is no *tls.Conn; the wrapper is around it
	tlsOutside                  // the listener gave a *tls.Conn, and net/http uses it directly: there is no wrapper
)

// A server is the kind of server that serves a connection.
type server uint8

const (
	netHTTP  server = iota
	handlers        // a handler of ServeTCP: the connection is raw
	foreign         // the server of another protocol, run by ServeFunc
)

// A kind describes what kind of connection a conn is.
type kind struct {
	server    server // never changes
	transport transport
	name      string // the name of the protocol of ServeTCP, ServeFunc or a WebSocket; otherwise empty
	http2     bool
	socket    bool // the connection is a syscall.Conn, so it can read again after a deadline; never changes
}

// raw reports whether a handler of ServeTCP serves the connection. No lock is needed.
func (k *kind) raw() bool { return k.server == handlers }

// secure reports whether the connection has TLS.
func (k *kind) secure() bool { return k.transport != plaintext }

// wrapped reports whether the server uses the connection through a wrapper.
func (k *kind) wrapped() bool { return k.transport != tlsOutside }

// plainHTTP1 reports whether net/http serves the connection, with HTTP/1 and without TLS.
func (k *kind) plainHTTP1() bool { return k.transport == plaintext && !k.http2 && k.name == "" }

// show returns the protocol for an Entry.
func (k *kind) show(reported http.ConnState) string {
	switch {
	case k.name != "":
		return k.name
	case reported == http.StateHijacked:
		return "hijacked"
	case k.http2:
		return "http/2"
	}
	return "http/1.1"
}
