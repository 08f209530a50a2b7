package drain

import (
	"net/http"
	"strings"
)

// Every rule by which a drain ends a request, or answers a request without its handler, is in this file.
//
// A request that may have side effects is served to its end, whatever its headers say: if a POST is cut, or is answered with
// 200 and not executed, its client has no way to learn what happened. So a rule applies only to a GET without a body; ruleOf
// checks that, and rules_test.go tests ruleOf. A rule for other requests would be possible if it refuses a request before the
// handler runs, by an answer that means "not executed". Such answers are the status 503 with "Connection: close",
// REFUSED_STREAM, and a GOAWAY that names an earlier stream. Today there is no such rule.
//
// The following cases look like rules but are none, since they neither end nor refuse a request:
//
//	a late request of HTTP/1     is served; its answer announces the end of the connection           answer.go
//	a late stream of HTTP/2      is served; a first GOAWAY asks the client to open no more streams,
//	                             and then net/http sends a GOAWAY with the last stream that is served  http2.go
//	Expect: 100-continue         is answered with 100, and the request served: a refusal before the
//	                             body would be allowed, but it is not needed before the end of Grace   net/http
//	an idle connection           is closed if the kernel holds no byte of a request                    reader.go, close.go
//	a connection in the queue    is accepted and served in a plain stop; in a handover it is left to
//	                             the other process                                                     listener.go
//	a call of gRPC               is served by the two steps of grpc-go                                 grpcdrain
//
// Only the end of Grace, a limit that the program sets, ends every request. The error of Serve lists the requests that were
// cut, and an incomplete answer of HTTP/1 ends by a reset, so that the client does not take it as complete (expire.go).

// Values of request headers that select a rule.
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

// A rule says how a drain treats the requests of a requestKind. Its strings are for the reader of the code: only a test uses
// them.
type rule struct {
	kind requestKind
	// asks reports whether the headers of a request match the rule. ruleOf checks method and body.
	asks func(*http.Request) bool
	// late is the answer to a request that arrives during the drain. running is how the drain ends a request whose handler
	// runs when the drain begins.
	late, running string
	// why is the reason why the client of such a request loses nothing.
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

// ruleOf returns the kind of a request. Only a GET without a body can have another kind than ordinary: a client that wants
// events as the answer to a POST is no EventSource, and does not reconnect by itself.
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

// acceptsEvents reports whether the client accepts only an event stream, as an EventSource does.
func acceptsEvents(r *http.Request) bool {
	accept := r.Header["Accept"]
	return len(accept) == 1 && accept[0] == eventStreamType
}

// upgradesToWebSocket reports whether r is a request of HTTP/1.1 for a WebSocket. The header "Connection" must name the header
// "Upgrade": otherwise the client has sent "Upgrade" only to a proxy, which should have removed it. The comparison of lengths
// excludes letters outside ASCII that EqualFold takes as equal to a letter of "websocket": such a letter has several bytes.
func upgradesToWebSocket(r *http.Request) bool {
	up := r.Header["Upgrade"]
	return len(up) == 1 && len(up[0]) == len(webSocket) && strings.EqualFold(up[0], webSocket) &&
		r.ProtoAtLeast(1, 1) && r.ProtoMajor == 1 && names(r.Header["Connection"], "upgrade")
}

// names reports whether word is an item of one of the comma-separated lists. Upper and lower case are the same.
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
