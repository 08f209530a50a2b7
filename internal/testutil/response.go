package testutil

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// errMalformed marks an answer that is not HTTP/1.1.
var errMalformed = errors.New("malformed answer")

// response reads an answer, and holds what a client has to know of the last one. Its buffers are used again for the next
// answer.
type response struct {
	status  int
	begun   bool // at least one byte of the answer was received
	close   bool // the connection ends with this answer
	length  int  // the length of the body; -1 if unknown
	chunked bool

	version, generation, pid []byte
}

// read reads an answer and drops the body.
func (r *response) read(br *bufio.Reader) error {
	r.begun = false
	if _, err := br.Peek(1); err != nil {
		return err
	}
	r.begun = true
	for {
		if err := r.readHead(br); err != nil {
			return err
		}
		if r.status >= 200 {
			return r.skipBody(br)
		}
	}
}

func (r *response) readHead(br *bufio.Reader) error {
	r.close, r.chunked, r.length = false, false, -1
	r.version, r.generation, r.pid = r.version[:0], r.generation[:0], r.pid[:0]
	line, err := readLine(br)
	if err != nil {
		return err
	}
	if err := r.readStatus(line); err != nil {
		return err
	}
	for {
		line, err := readLine(br)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if err := r.readField(line); err != nil {
			return err
		}
	}
}

func (r *response) readStatus(line []byte) error {
	const start = len("HTTP/1.1 ")
	if len(line) < start+3 || string(line[:7]) != "HTTP/1." {
		return fmt.Errorf("%w: status line %.40q", errMalformed, line)
	}
	n, ok := number(line[start : start+3])
	if !ok || n < 100 {
		return fmt.Errorf("%w: status line %.40q", errMalformed, line)
	}
	r.status = n
	r.close = line[7] == '0'
	return nil
}

func (r *response) readField(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return fmt.Errorf("%w: header line %.40q", errMalformed, line)
	}
	value = bytes.TrimSpace(value)
	switch {
	case named(name, "Content-Length"):
		if r.length, ok = number(value); !ok {
			return fmt.Errorf("%w: length %.40q", errMalformed, value)
		}
	case named(name, "Transfer-Encoding"):
		r.chunked = named(value, "chunked")
	case named(name, "Connection"):
		r.close = r.close || named(value, "close")
	case named(name, "X-Version"):
		r.version = append(r.version[:0], value...)
	case named(name, "X-Generation"):
		r.generation = append(r.generation[:0], value...)
	case named(name, "X-Pid"):
		r.pid = append(r.pid[:0], value...)
	}
	return nil
}

// named reports whether b is the name, in upper or lower case. named does not allocate.
func named(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c|0x20 != name[i]|0x20 {
			return false
		}
	}
	return true
}

func (r *response) skipBody(br *bufio.Reader) error {
	switch {
	case r.status == 204 || r.status == 304:
		return nil
	case r.chunked:
		return skipChunks(br)
	case r.length >= 0:
		_, err := br.Discard(r.length)
		return cut(err)
	}
	r.close = true
	_, err := io.Copy(io.Discard, br)
	return err
}

func skipChunks(br *bufio.Reader) error {
	for {
		line, err := readLine(br)
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte{';'})
		n, err := strconv.ParseUint(string(size), 16, 31)
		if err != nil {
			return fmt.Errorf("%w: chunk size %.40q", errMalformed, line)
		}
		if n == 0 {
			break
		}
		if _, err := br.Discard(int(n) + len("\r\n")); err != nil {
			return cut(err)
		}
	}
	for { // trailer fields
		if line, err := readLine(br); err != nil || len(line) == 0 {
			return err
		}
	}
}

// readLine returns the next line without the line end. The slice is valid until the next read.
func readLine(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: line of more than %d bytes", errMalformed, len(line))
	}
	if err != nil {
		return nil, cut(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

// cut returns io.ErrUnexpectedEOF for io.EOF: the connection has ended in the middle of an answer.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// number parses decimal digits without allocating.
func number(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<27 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}
