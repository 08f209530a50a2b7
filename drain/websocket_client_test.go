package drain_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
)

// wsEcho is a minimal WebSocket server. It echoes messages, which must not be longer than 125 bytes.
func wsEcho(head func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		nc, rw, err := head(w)
		if err != nil {
			return
		}
		defer nc.Close()
		for {
			op, text, err := readMessage(rw)
			if err != nil {
				return
			}
			if _, err := io.WriteString(nc, string([]byte{0x80 | op, byte(len(text))})+text); err != nil || op == 8 {
				return
			}
		}
	}
}

// lateHead hijacks the connection and then writes the answer, as gorilla/websocket does. earlyHead writes the answer before the
// hijack, as coder/websocket does.
func lateHead(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = io.WriteString(nc, switching)
	}
	return nc, rw, err
}

func earlyHead(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusSwitchingProtocols)
	return w.(http.Hijacker).Hijack()
}

// readMessage reads a short frame, masked or not.
func readMessage(r io.Reader) (op byte, text string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", err
	}
	body := make([]byte, int(head[1]&0x7f)+int(head[1]>>7)*4)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, "", err
	}
	if head[1]&0x80 != 0 {
		mask := body[:4]
		body = body[4:]
		for i := range body {
			body[i] ^= mask[i%4]
		}
	}
	return head[0] & 0x0f, string(body), nil
}

// A socket is the client's side of a WebSocket.
type socket struct{ *client }

func (c socket) upgrade() socket {
	c.t.Helper()
	c.send(askWebSocket)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("%+v, %v", res, err)
	}
	return c
}

func (c socket) say(op byte, text string) {
	c.t.Helper()
	c.send(string([]byte{0x80 | op, 0x80 | byte(len(text)), 0, 0, 0, 0}) + text)
}

func (c socket) hear() (op byte, text string) {
	c.t.Helper()
	op, text, err := readMessage(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	return op, text
}

// restarted fails the test unless a close with status 1012 comes. It answers the close, and then waits for the end of the
// connection.
func (c socket) restarted() {
	c.t.Helper()
	op, text := c.hear()
	if op != 8 || len(text) < 2 || binary.BigEndian.Uint16([]byte(text)) != 1012 {
		c.t.Fatalf("%d %q, want a close with 1012", op, text)
	}
	c.say(8, text[:2])
	c.closed()
}
