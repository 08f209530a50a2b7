//go:build linux

package upgrade_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// meddle puts itself between the library of this process, which is a candidate, and the control socket that it
// inherited, and changes what passes. So both sides meet a peer of another version, or one that talks rubbish, while
// all the rest of them is real. The frames are read and written by hand here. The function that is returned waits
// until the old process has all that was said, and comes last.
func meddle(how string) (heard func(), err error) {
	if how == "" {
		return func() {}, nil
	}
	name, arg, _ := strings.Cut(how, ":")
	change, ok := meddlers[name]
	if !ok {
		return nil, fmt.Errorf("nobody meddles by %q", how)
	}
	fd, err := controlSocket()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	old, err1 := takeConn(fd)
	own, err2 := takeConn(pair[0])
	if err := errors.Join(err1, err2, unix.Close(pair[0]), unix.Dup3(pair[1], fd, 0)); err != nil {
		return nil, err
	}
	said := make(chan struct{})
	go pump(old, own, func(p packet) []packet { return change(p, arg) }) // both end with the process at the latest
	go func() {
		defer close(said)
		pump(own, old, func(p packet) []packet { return change(p, arg) })
	}()
	return func() {
		_ = unix.Shutdown(pair[1], unix.SHUT_WR)
		<-said
	}, nil
}

// controlSocket finds the inherited one: no other socket keeps the borders of messages.
func controlSocket() (int, error) {
	for fd := 5; fd < 40; fd++ {
		if kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err == nil && kind == syscall.SOCK_SEQPACKET {
			return fd, nil
		}
	}
	return -1, errors.New("no control socket was inherited")
}

func takeConn(fd int) (*net.UnixConn, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100) // far from the numbers that are handed on
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "control")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// packet is a frame with its descriptors, or what is sent in place of one.
type packet struct {
	kind byte
	body map[string]any // nil: none
	fds  []int
	raw  string // sent as it is, if it is set
}

// The kinds of frames that scripts name.
var kinds = map[string]byte{
	"hello": 1, "welcome": 2, "prepared": 3, "open": 4, "commit": 5, "serving": 6, "failed": 7, "abort": 8, "returned": 9,
	"released": 10, "dial": 11, "dialed": 12, "previous": 13, "elder": 14, "hurry": 15,
}

func (p packet) bytes() []byte {
	if p.raw != "" {
		return []byte(p.raw)
	}
	var body []byte
	if p.body != nil {
		body, _ = json.Marshal(p.body)
	}
	b := append([]byte("mdr1"), p.kind, byte(len(p.fds)), 0, 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

func pump(from, to *net.UnixConn, change func(packet) []packet) {
	defer to.Close()
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(8*4))
	for {
		n, oobn, _, _, err := from.ReadMsgUnix(buf, oob)
		if err != nil || n < 12 {
			return
		}
		p := packet{kind: buf[4]}
		_ = json.Unmarshal(buf[12:n], &p.body)
		if msgs, _ := unix.ParseSocketControlMessage(oob[:oobn]); len(msgs) > 0 {
			p.fds, _ = unix.ParseUnixRights(&msgs[0])
		}
		for _, q := range change(p) {
			if _, _, err := to.WriteMsgUnix(q.bytes(), unix.UnixRights(q.fds...), nil); err != nil {
				return
			}
		}
		for _, fd := range p.fds {
			unix.Close(fd)
		}
	}
}

// meddlers change a packet on its way. Numbers in a body are float64, as JSON has them.
var meddlers = map[string]func(p packet, arg string) []packet{
	// The candidate knows the versions min to max.
	"speaks": func(p packet, arg string) []packet {
		if p.kind == kinds["hello"] {
			var low, high int
			_, _ = fmt.Sscan(arg, &low, &high)
			p.body["min"], p.body["max"] = low, high
		}
		return []packet{p}
	},
	// Both sides come from the future: they know more versions, more fields and more frames.
	"future": func(p packet, _ string) []packet {
		if p.kind == kinds["hello"] {
			p.body["min"], p.body["max"] = 2, 9
		}
		if p.body != nil {
			p.body["colour"] = map[string]any{"hue": []int{1, 2, 3}}
		}
		return []packet{
			{kind: 77},
			{kind: 200, body: map[string]any{"id": "x"}, fds: []int{0, 1}},
			p,
			{kind: 255, body: map[string]any{}, fds: []int{0, 1, 2, 0, 1, 2, 0, 1}},
		}
	},
	// The old process chooses a version that this one does not know.
	"chooses": func(p packet, arg string) []packet {
		if p.kind == kinds["welcome"] {
			p.body["protocol"] = json.Number(arg)
		}
		return []packet{p}
	},
	// The old process refuses a hello.
	"refuses": func(p packet, arg string) []packet {
		if p.kind == kinds["welcome"] {
			p = packet{kind: kinds["abort"], body: map[string]any{"reason": arg}}
		}
		return []packet{p}
	},
	// Rubbish in place of the frame that is named.
	"rubbish": func(p packet, arg string) []packet {
		if p.kind == kinds[arg] {
			p.raw = "this is no frame of ours"
		}
		return []packet{p}
	},
	// Rubbish after the frame that is named, from the one who has got it.
	"retort": func(p packet, arg string) []packet {
		if p.kind == kinds[arg] {
			return []packet{p, {raw: "this is no frame of ours"}}
		}
		return []packet{p}
	},
}
