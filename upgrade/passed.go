package upgrade

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/midair-go/midair/internal/process"
)

// systemdNetwork is the network of a socket that is asked for by its name in a socket unit.
const systemdNetwork = "systemd"

// storePrefix begins the names of the sockets that this package has a service manager keep.
const storePrefix = "midair."

// storeNameLimit is systemd's for FDNAME.
const storeNameLimit = 255

// passed are the sockets that a service manager has started this process with: those of socket units, and those that an
// earlier process had it keep. They are looked for by Listen, after what an older generation has handed over.
type passed struct {
	mu    sync.Mutex
	files []*os.File // named; those of socket units first, in their order
}

// takePassed reads LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID and unsets them: no other process is meant.
func takePassed() *passed {
	ownListenPID()
	return &passed{files: activation.Files(true)}
}

// storeName is the name that a socket is kept under: printable, without a colon, and the same in every generation. It is
// empty for one that cannot be named.
func storeName(kind, network, addr string) string {
	var b strings.Builder
	b.WriteString(storePrefix + kind + "." + network + ".")
	for _, c := range []byte(addr) {
		if c <= ' ' || c >= 0x7f || c == ':' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	if b.Len() > storeNameLimit {
		return ""
	}
	return b.String()
}

// take returns the socket that is meant, as a net.Listener or a net.PacketConn; nil if there is none.
func (p *passed) take(kind, network, addr, key string) (any, error) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	own := storeName(kind, network, key)
	for i, f := range p.files {
		stored := strings.HasPrefix(f.Name(), storePrefix)
		switch {
		case f.Name() == own && own != "":
		case network == systemdNetwork && f.Name() == addr:
		case !stored && network != systemdNetwork && boundTo(f, kind, network, addr):
		default:
			continue
		}
		sock, err := fileSocket(f, kind)
		if err != nil {
			return nil, fmt.Errorf("the socket %q that was passed: %w", f.Name(), err)
		}
		f.Close()
		p.files = append(p.files[:i:i], p.files[i+1:]...)
		return sock, nil
	}
	if network == systemdNetwork {
		return nil, fmt.Errorf("no socket named %q was passed, only %q: FileDescriptorName= in its socket unit names it, and it may be taken once", addr, p.names())
	}
	return nil, nil
}

func (p *passed) names() []string {
	names := []string{}
	for _, f := range p.files {
		if !strings.HasPrefix(f.Name(), storePrefix) {
			names = append(names, f.Name())
		}
	}
	return names
}

func fileSocket(f *os.File, kind string) (any, error) {
	if kind == "listener" {
		return orNil(net.FileListener(f))
	}
	return orNil(net.FilePacketConn(f))
}

// boundTo tells whether a socket has the address that the program asks for.
func boundTo(f *os.File, kind, network, addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return false
	}
	sock, err := fileSocket(f, kind)
	if err != nil {
		return false
	}
	var at net.Addr
	switch s := sock.(type) {
	case net.Listener:
		at = s.Addr()
		s.Close()
	case net.PacketConn:
		at = s.LocalAddr()
		s.Close()
	}
	ip, bound := addrPort(at)
	if want, err := net.LookupPort(network, port); err != nil || want == 0 || want != bound {
		return false
	}
	if host == "" {
		return ip.IsUnspecified()
	}
	want, err := net.ResolveIPAddr("ip", host)
	return err == nil && (want.IP.Equal(ip) || want.IP.IsUnspecified() && ip.IsUnspecified())
}

func addrPort(a net.Addr) (net.IP, int) {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP, a.Port
	case *net.UDPAddr:
		return a.IP, a.Port
	}
	return nil, 0
}

// unclaimed closes what the program has not asked for until now, and returns the names of what it had had kept.
func (p *passed) unclaimed() (names []string) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.files {
		if strings.HasPrefix(f.Name(), storePrefix) {
			names = append(names, f.Name())
		}
		f.Close()
	}
	p.files = nil
	return names
}

// find takes a file by its name; nil if there is none.
func (p *passed) find(name string) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.files {
		if f.Name() == name {
			p.files = append(p.files[:i:i], p.files[i+1:]...)
			return f
		}
	}
	return nil
}

// ownListenPID says that the passed descriptors are for this process: our supervisor cannot know its pid before it
// starts it.
func ownListenPID() {
	if isSupervised() && os.Getenv("LISTEN_FDS") != "" && os.Getenv("LISTEN_PID") == "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
}

// isSupervised tells whether this process is a generation of our own supervisor: its child, or the child of one. A
// process that a generation has started for another purpose is not.
func isSupervised() bool {
	by, err := strconv.Atoi(os.Getenv(supervisorEnv))
	return err == nil && (process.HasParent() || by == os.Getppid())
}
