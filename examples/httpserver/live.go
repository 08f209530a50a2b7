package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// events sends an event every so often, numbered on from the Last-Event-ID of a client that comes back. In a drain,
// package drain sends the client a time to wait before it comes back, and ends the answer between two events.
func (id identity) events(w http.ResponseWriter, r *http.Request) {
	every, err := duration(r, "every", time.Second)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n, _ := strconv.Atoi(r.Header.Get("Last-Event-ID")) // none, or not ours: from the beginning
	noStore(w, "text/event-stream")
	rc := http.NewResponseController(w)
	for {
		n++
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s generation %d pid %d\n\n", n, id.version, id.generation, id.pid); err != nil {
			return
		}
		if rc.Flush() != nil || sleep(r.Context(), every) != nil {
			return
		}
	}
}

// The longest message of a WebSocket, and the types of frames.
const (
	maxMessage = 1 << 20

	opClose, opPing, opPong = 0x8, 0x9, 0xa

	fin = 0x80
)

var errWebSocket = errors.New("not a frame that a client may send")

// webSocket sends back every message. The code is as small as RFC 6455 allows; a real service takes a library. Package drain
// closes the WebSockets of both with status 1012.
func webSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket", http.StatusUpgradeRequired)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "a WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Time{})
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), headerLines(w.Header()))
	for err == nil {
		err = answerFrame(nc, rw.Reader)
	}
}

// headerLines returns the fields as text: they name the process of the answer.
func headerLines(h http.Header) string {
	var b strings.Builder
	h.Write(&b) // a strings.Builder takes everything
	return b.String()
}

// answerFrame reads a frame and sends the answer. The fragments of a message come back unchanged.
func answerFrame(w io.Writer, r *bufio.Reader) error {
	head, payload, err := readFrame(r)
	if err != nil {
		return err
	}
	switch head & 0x0f {
	case opPong:
		return nil
	case opPing:
		head = fin | opPong
	}
	if err := writeFrame(w, head, payload); err != nil {
		return err
	}
	if head&0x0f == opClose {
		return net.ErrClosed
	}
	return nil
}

// readFrame reads a frame, and takes the mask off.
func readFrame(r io.Reader) (head byte, payload []byte, err error) {
	var b [8]byte
	if _, err = io.ReadFull(r, b[:2]); err != nil {
		return 0, nil, err
	}
	head, masked, n := b[0], b[1]&0x80 != 0, uint64(b[1]&0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(r, b[:2])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		_, err = io.ReadFull(r, b[:8])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err == nil && (!masked || n > maxMessage) {
		err = errWebSocket
	}
	if err != nil {
		return 0, nil, err
	}
	all := make([]byte, 4+n)
	if _, err = io.ReadFull(r, all); err != nil {
		return 0, nil, err
	}
	for i := range all[4:] {
		all[4+i] ^= all[i%4]
	}
	return head, all[4:], nil
}

// writeFrame writes a frame as a server does, without a mask.
func writeFrame(w io.Writer, head byte, payload []byte) error {
	b := []byte{head}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	_, err := w.Write(append(b, payload...))
	return err
}
