package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// A frame is a header of 12 bytes and a body in JSON. A new version may add a field to a body, because a receiver skips fields
// that it does not know.
//
//	0  4  magic "mdr1"
//	4  1  kind
//	5  1  number of descriptors that come with the frame: at most 8; in frames of KindListeners and KindConns at most sys.MaxFiles
//	6  1  the lowest bit is 1 if the sender answers frames of KindConns; older builds write 0, and ignore this byte
//	7  1  zero; the receiver ignores this byte
//	8  4  length of the body, big endian
const (
	frameMagic  = "mdr1"
	frameHeader = 12
	frameLimit  = 32 << 10 // the most bytes of a frame, so that a frame always fits into the socket's buffer
	filesLimit  = 8
)

// Frame is a received message. A function that takes a frame from Link.Frames calls Close.
type Frame struct {
	Kind   Kind
	Body   []byte // JSON for Decode; empty if the message has no body
	Files  []*os.File
	nfiles int // how many descriptors the header announces

	answers bool      // the sender answers frames of KindConns
	conn    *ConnBody // the body, if the frame is a part of a frame of KindConns
}

// Decode reads the body into v, a pointer to a struct of this package. If there is no body, v stays unchanged.
func (f Frame) Decode(v any) error {
	if about, ok := v.(*ConnBody); ok && f.conn != nil {
		*about = *f.conn
		return nil
	}
	if len(f.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.Body, v); err != nil {
		return fmt.Errorf("control message %v: %w", f.Kind, err)
	}
	return nil
}

// Close closes the descriptors that came with the frame.
func (f Frame) Close() {
	for _, file := range f.Files {
		file.Close()
	}
}

// Encode returns the bytes of a message. body is a struct of this package, or nil if the message has no body. nfiles is the
// number of descriptors that come with the message.
func Encode(k Kind, body any, nfiles int) ([]byte, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	if frameHeader+len(data) > frameLimit {
		return nil, fmt.Errorf("control message %v: %d bytes are more than %d", k, len(data), frameLimit-frameHeader)
	}
	b := append(make([]byte, 0, frameHeader+len(data)), frameMagic...)
	b = append(b, byte(k), byte(nfiles), 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...), nil
}

// The errors that end a link although the other process lives.
var (
	// ErrFrame means that the received bytes are not a frame.
	ErrFrame = errors.New("what came on the control socket is not a frame")
	// ErrMissing means that a frame came without some of its descriptors. errors.Is(ErrMissing, ErrFrame) is true.
	ErrMissing = fmt.Errorf("%w: descriptors are missing, perhaps too many files are open", ErrFrame)
)

// cutFrame returns the first frame in b, and the bytes after it. If rest and err are nil, the frame in b is not complete yet.
func cutFrame(b []byte) (f Frame, rest []byte, err error) {
	if len(b) < frameHeader {
		return Frame{}, nil, nil
	}
	size := binary.BigEndian.Uint32(b[8:])
	tooMany := b[5] > filesLimit && Kind(b[4]) != KindListeners && Kind(b[4]) != KindConns
	if string(b[:4]) != frameMagic || size > frameLimit-frameHeader || tooMany {
		return Frame{}, nil, ErrFrame
	}
	end := frameHeader + int(size)
	if len(b) < end {
		return Frame{}, nil, nil
	}
	body := append([]byte(nil), b[frameHeader:end]...)
	return Frame{Kind: Kind(b[4]), Body: body, nfiles: int(b[5]), answers: b[6]&1 == 1}, b[end:len(b):len(b)], nil
}

// SocketName identifies a socket by the same three strings as the library tableflip.
type SocketName struct {
	Kind    string `json:"kind"`
	Network string `json:"network"`
	Addr    string `json:"addr"`
}

// PathLink describes the file of a unix socket. Name is the file's second name, a hard link in the same directory. Dev and Ino
// are the device and the inode of the file.
type PathLink struct {
	Name string `json:"name,omitempty"`
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"` // 0: the file of the socket is not known
}
