package drain

import (
	"net/http"
	"strings"
)

// Every rule by which a drain ends a request, or answers a request without its handler, is in this file.
//
// A request that may have side effects is served to its end whatever it looks like: the client of a POST that was cut, or was
// answered with 200 and not executed, has no way to learn what happened. So a rule applies to a GET without a body only
// (ruleOf holds that, and rules_test.go holds ruleOf), unless it refuses the request before the handler ran by an
// answer that means "not executed": status 503 with "Connection: close", REFUSED_STREAM, or a GOAWAY that names an earlier
// stream. Today no rule makes use of that for other requests than GET.
//
// These look like rules and are none, since no request is ended or refused by them:
//
//	a late request of HTTP/1     is served; its answer announces the end of the connection           answer.go
//	a late stream of HTTP/2      is served; the client is told first, and then net/http sends its
//	                             GOAWAY, which names the last stream that is served                    http2.go
//	Expect: 100-continue         is answered with 100, and the request served: a refusal before the
//	                             body would be allowed, but what ends within Grace is not refused      net/http
//	an idle connection           is closed if the kernel holds no byte of a request                    close.go, offer.go
//	a connection in the queue    is accepted and served by a plain stop, and left to the successor
//	                             by a handover                                                         listener.go
//	a call of gRPC               is served by the two steps of grpc-go                                 grpcdrain
//
// One thing ends every request: the end of Grace, which is the limit that the program sets. What it cuts is listed, and an
// answer of HTTP/1 that is not complete ends by a reset, so that it does not look complete (expire.go).

// Values of the headers of requests that have a rule.
const (
	eventStreamType = "text/event-stream"
	webSocket       = "websocket"
)

// A requestKind is a kind of request that a drain does not serve to its end.
type requestKind int

const (
	ordinary requestKind = iota
	eventSource
	webSocketUpgrade
)

// A rule is the treatment of a requestKind.
type rule struct {
	kind requestKind
	// asks looks at the headers of a request. Method and body are looked at by ruleOf.
	asks func(*http.Request) bool
	// late is what a request gets that comes in a drain, running what becomes of one that is being served.
	late, running string
	// why the client of such a request loses nothing.
	why string
}

var rules = [...]rule{
	{
		kind: eventSource, asks: acceptsEvents,
		late:    "status 200, a time to come back after, and the end; the handler does not run",
		running: "a time to come back after, and the end, between two events",
		why: "an EventSource reconnects by itself with Last-Event-ID after the end of an answer of status 200, and gives up " +
			"for good after another status; the stream has no end of its own that could be waited for",
	},
	{
		kind: webSocketUpgrade, asks: upgradesToWebSocket,
		late:    "status 503 with Retry-After and Connection: close; the handler does not run",
		running: "a close with status 1012 between two messages",
		why: "1012 means that the service restarts and asks the client to come back; the protocol has no other end that " +
			"the server can begin. A new WebSocket would be closed at once. Options.KeepWebSockets turns both off",
	},
}

// ruleOf returns the kind of a request. No request is of a kind with a rule but a GET without a body: a client that wants the
// events of a POST is no EventSource, and does not come back by itself.
func ruleOf(r *http.Request) requestKind {
	if r.Method != http.MethodGet || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return ordinary
	}
	for i := range rules {
		if rules[i].asks(r) {
			return rules[i].kind
		}
	}
	return ordinary
}

// acceptsEvents reports whether events are the only thing that a client takes, as an EventSource does.
func acceptsEvents(r *http.Request) bool {
	accept := r.Header["Accept"]
	return len(accept) == 1 && accept[0] == eventStreamType
}

// upgradesToWebSocket reports whether a request of HTTP/1.1 asks for a WebSocket. A header "Upgrade" that the header
// "Connection" does not name is a leftover of a proxy. The length keeps out letters beyond ASCII that fold to a letter of
// the word: such a letter takes more than one byte.
func upgradesToWebSocket(r *http.Request) bool {
	up := r.Header["Upgrade"]
	return len(up) == 1 && len(up[0]) == len(webSocket) && strings.EqualFold(up[0], webSocket) &&
		r.ProtoAtLeast(1, 1) && r.ProtoMajor == 1 && names(r.Header["Connection"], "upgrade")
}

// names reports whether a word is in lists that are separated by commas.
func names(lists []string, word string) bool {
	for _, list := range lists {
		for more := true; more; {
			var item string
			item, list, more = strings.Cut(list, ",")
			if strings.EqualFold(strings.Trim(item, " \t"), word) {
				return true
			}
		}
	}
	return false
}
