package drain

import "time"

// An Entry is something that a [Server] waits for in a drain: a connection, a stream of HTTP/2, a job.
type Entry struct {
	// Protocol is "http/1.1", "http/2", "sse", "websocket", "tcp", "job", or the protocol that was passed to [Server.ServeFunc]
	// or [Server.Track]. It is "hijacked" if a handler took the connection over for a protocol that the Server does not know.
	Protocol string `json:"protocol"`
	// State is new, idle, active, hijacked or closing, or what the program has passed to [Server.Track]. A closing connection
	// has sent its last answer, and waits for the client to close.
	State string `json:"state"`
	// Since is when the state of the entry began; for a request, when the request began.
	Since time.Time `json:"since"`
	// Name is the method and path of the current or last request, or the name of a job; empty if there was no request.
	Name string `json:"name,omitempty"`
	// Remote is the address of the client; empty for a job.
	Remote string `json:"remote,omitempty"`
	// Read and Written count the bytes of the connection. With ServeTLS they count the encrypted bytes. They are zero if the
	// listener gave a *tls.Conn.
	Read    int64 `json:"read"`
	Written int64 `json:"written"`
	// Action is the last step that was taken against the entry after Grace had run out: "cancelled", "deadline",
	// "half-closed", "closed" or "reset". Empty before Grace has run out.
	Action string `json:"action,omitempty"`
}

// String describes the entry in a line.
func (e Entry) String() string {
	text := e.Protocol + " " + e.State
	for _, part := range []string{e.Name, e.Remote, e.Action} {
		if part != "" {
			text += " " + part
		}
	}
	return text
}

// The steps against connections and jobs that are unfinished when Grace has run out: the values of Entry.Action.
const (
	stepCancel    = "cancelled"
	stepDeadline  = "deadline"
	stepHalfClose = "half-closed"
	stepClose     = "closed"
	stepReset     = "reset"
)
