package subprocess

import (
	"context"
	"net"
	"net/http"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// This file has what the two programs agree on. They may have different versions of this library: a change that one of them does
// not understand needs a new protocolVersion.

const (
	protocolVersion = 1
	// dirEnv has the private directory of the process.
	dirEnv    = "MIDAIR_SUBPROCESS_DIR"
	pluginEnv = "PLUGIN_" // how the variables of go-plugin begin
	// fromHeader has the version of HTTP, the scheme, and the RemoteAddr of a request. Only a host can send it: a client's line is
	// removed.
	fromHeader = "Midair-From"
	// uriHeader has the RequestURI of a request whose URL was changed in the host.
	uriHeader = "Midair-Uri"

	socketName = "http"    // the socket for requests
	processKey = "process" // a file that is locked (fcntl) as long as the process lives, so that the system knows its pid
)

var handshake = plugin.HandshakeConfig{
	ProtocolVersion: protocolVersion, MagicCookieKey: "MIDAIR_SUBPROCESS", MagicCookieValue: "canary",
}

// plugins are what go-plugin serves: nothing, as the requests have a socket of their own. A set must not be empty.
var plugins = map[int]plugin.PluginSet{protocolVersion: {"handler": none{}}}

// none is a plugin without methods.
type none struct{ plugin.NetRPCUnsupportedPlugin }

func (none) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (none) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

var _ plugin.GRPCPlugin = none{}

// announces reports whether the process sends the status 102 before the handler gets a request with this method. The status tells
// the host of a process that has ended whether another handler may run the request: a process that was killed may not have read
// what the host had written. A request with a safe method may run twice, and saves the time.
func announces(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// dial connects to a unix socket, and checks that a process of this user listens there.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	if err := checkPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
