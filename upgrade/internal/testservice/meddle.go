//go:build linux

package testservice

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// meddle puts itself between the library of this process, which is a candidate, and the control socket that the process
// inherited, and changes the messages on their way. So both sides meet a peer of another version, or a peer with
// rubbish, while everything else is real. Messages are read and written by hand here. The function flush waits until the
// old process has received everything, and is called last.
func meddle(m plan.Meddling) (flush func(), err error) {
	if m.Do == "" {
		return func() {}, nil
	}
	change := meddles[m.Do]
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
	say, err := speaker(m, old)
	if err != nil {
		return nil, err
	}
	sent := make(chan struct{})
	go pump(old, own, func(p packet) []packet { return change(p, m) }, say) // both end with the process at the latest
	go func() {
		defer close(sent)
		pump(own, old, func(p packet) []packet { return change(p, m) }, say)
	}()
	return func() {
		_ = unix.Shutdown(pair[1], unix.SHUT_WR)
		<-sent
	}, nil
}

// speaker returns a function that says the word of the meddling to the old process if the message was the right one. A word for
// the start of the process is said before speaker returns.
func speaker(m plan.Meddling, old *net.UnixConn) (func(packet), error) {
	if m.Do != plan.Says {
		return func(packet) {}, nil
	}
	ready, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 100) // what descriptor 3 is later is tableflip's to say
	if err != nil {
		return nil, err
	}
	say := func(p packet) {
		switch {
		case p.kind != kinds[m.Kind]:
		case m.Word == plan.ReadyByte:
			_, _ = unix.Write(ready, []byte{42})
		default:
			_, _, _ = old.WriteMsgUnix(packet{kind: kinds[m.Word]}.bytes(), nil, nil) // the old process may have hung up
		}
	}
	say(packet{})
	return say, nil
}

// controlSocket finds the control socket among the inherited descriptors: no other socket keeps the borders of messages.
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

// packet is a message with descriptors, or rubbish in place of a message.
type packet struct {
	kind byte
	body map[string]any // nil: none
	fds  []int
	raw  string // sent as it is, if it is set
}

// kinds has the messages with a name in settings.
var kinds = map[string]byte{
	"hello": 1, "welcome": 2, "prepared": 3, "open": 4, "commit": 5, "serving": 6, "abort": 8, "returned": 9, "released": 10,
	"dial": 11, "dialed": 12, "previous": 13, "elder": 14, "hurry": 15, "share": 16, "conn": 17, "beat": 18, "weight": 19, "shut": 20,
	"listeners": 22,
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

func pump(from, to *net.UnixConn, change func(packet) []packet, say func(packet)) {
	defer to.Close()
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(sys.MaxFiles*4))
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
		say(p)
	}
}

// rubbish is no message of the protocol.
const rubbish = "this is no frame of ours"

// meddles change a packet on the way. Numbers in a body are float64, as in all JSON.
var meddles = map[plan.Meddle]func(p packet, m plan.Meddling) []packet{
	plan.Speaks: func(p packet, m plan.Meddling) []packet {
		if p.kind == kinds["hello"] {
			p.body["min"], p.body["max"] = m.Low, m.High
		}
		return []packet{p}
	},
	plan.Chooses: func(p packet, m plan.Meddling) []packet {
		if p.kind == kinds["welcome"] {
			p.body["protocol"] = m.Low
		}
		return []packet{p}
	},
	plan.Refuses: func(p packet, m plan.Meddling) []packet {
		if p.kind == kinds["welcome"] {
			p = packet{kind: kinds["abort"], body: map[string]any{"reason": m.Reason}}
		}
		return []packet{p}
	},
	plan.Future: comeFromTheFuture,
	plan.Says:   func(p packet, _ plan.Meddling) []packet { return []packet{p} },
	plan.Rubbish: func(p packet, m plan.Meddling) []packet {
		if p.kind == kinds[m.Kind] {
			p.raw = rubbish
		}
		return []packet{p}
	},
	plan.Retort: func(p packet, m plan.Meddling) []packet {
		if p.kind == kinds[m.Kind] {
			return []packet{p, {raw: rubbish}}
		}
		return []packet{p}
	},
}

// comeFromTheFuture adds versions, fields and messages of a later version.
func comeFromTheFuture(p packet, _ plan.Meddling) []packet {
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
}
