package drain

import "net/http"

// A transport is where the TLS of a connection is.
type transport uint8

const (
	plaintext  transport = iota
	tlsAbove             // net/http has a *tls.Conn above the wrapper
	tlsInside            // the listener gave a connection with a TLS of its own, and the wrapper is around it
	tlsOutside           // the listener gave a *tls.Conn, and net/http has the *tls.Conn itself: there is no wrapper
)

// A server is the kind of server that serves a connection.
type server uint8

const (
	netHTTP  server = iota
	handlers        // those of ServeTCP: the connection is raw
	foreign         // a server that ServeFunc runs
)

// A kind is what sort of connection a conn is.
type kind struct {
	server    server // never changes
	transport transport
	name      string // of the protocol, where net/http does not serve the connection, or a WebSocket follows
	http2     bool
	socket    bool // a Read surely survives an interruption; never changes
}

// raw reports whether a handler of ServeTCP serves the connection. No lock is needed.
func (k *kind) raw() bool { return k.server == handlers }

// secure reports whether the connection has TLS.
func (k *kind) secure() bool { return k.transport != plaintext }

// wrapped reports whether a wrapper sees what is done with the connection.
func (k *kind) wrapped() bool { return k.transport != tlsOutside }

// plainHTTP1 reports whether net/http serves the connection, with HTTP/1 and without TLS.
func (k *kind) plainHTTP1() bool { return k.transport == plaintext && !k.http2 && k.name == "" }

// show is the protocol for an Entry.
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
