package sdnotify

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/midair-go/midair/internal/sys"
)

// Network is the network of a socket that is asked for by its name in a socket unit.
const Network = "systemd"

// StorePrefix begins the names of the sockets that this package has a service manager keep.
const StorePrefix = "midair."

// MostSockets is how many sockets a process may have open to hand on. The supervisor of the library holds as many.
const MostSockets = 8192

// storeNameLimit is systemd's for FDNAME.
const storeNameLimit = 255

// Activation are the sockets that a service manager has started this process with: the sockets of socket units, and the ones
// kept for an earlier process. Listen looks for a socket here after the sockets of an older generation.
type Activation struct {
	mu    sync.Mutex
	Files []*os.File // named; those of socket units first, in their order
	stale []string   // names of kept sockets that Take has left
	units []uint64   // the inodes of those of socket units, once looked at
	known bool
}

// TakeActivation reads LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID and unsets them: no other process is meant.
func TakeActivation() *Activation {
	OwnListenPID()
	return &Activation{Files: activation.Files(true)}
}

// Add adds named sockets from another source.
func (p *Activation) Add(files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Files, p.known = append(p.Files, files...), false
}

// StoreName is the name for keeping a socket: printable, without a colon, and the same in every generation. It is empty for a
// socket that cannot be named.
func StoreName(kind, network, addr string) string {
	var b strings.Builder
	b.WriteString(StorePrefix + kind + "." + network + ".")
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

// Take returns the socket that is meant, as a net.Listener or a net.PacketConn; nil if there is none.
func (p *Activation) Take(kind, network, addr, key string) (any, error) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	own := StoreName(kind, network, key)
	for i, f := range p.Files {
		stored := strings.HasPrefix(f.Name(), StorePrefix)
		switch {
		case f.Name() == own && own != "" && noPath(network, addr):
			p.stale = append(p.stale, own)
			continue
		case f.Name() == own && own != "":
		case network == Network && f.Name() == addr:
		case !stored && network != Network && boundTo(f, kind, network, addr):
		default:
			continue
		}
		sock, err := fileSocket(f, kind)
		if err != nil {
			return nil, fmt.Errorf("the socket %q that was passed: %w", f.Name(), err)
		}
		f.Close()
		p.Files = append(p.Files[:i:i], p.Files[i+1:]...)
		return sock, nil
	}
	if network == Network {
		return nil, fmt.Errorf("no socket named %q was passed, only %q: FileDescriptorName= in its socket unit names it, and it may be taken once", addr, p.names())
	}
	return nil, nil
}

// IsUnit reports whether a socket, given by its inode, belongs to a socket unit, also if the socket was taken as a kept one.
func (p *Activation) IsUnit(inode uint64) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.units, inode)
}

// look notes which sockets are of units. p.mu is held.
func (p *Activation) look() {
	if p.known {
		return
	}
	p.known = true
	for _, f := range p.Files {
		if strings.HasPrefix(f.Name(), StorePrefix) {
			continue
		}
		if inode, ok := inodeOf(f); ok {
			p.units = append(p.units, inode)
		}
	}
}

func inodeOf(f *os.File) (inode uint64, ok bool) {
	fd, inode, err := sys.Duplicate(f)
	if err != nil {
		return 0, false
	}
	sys.CloseFD(fd)
	return inode, true
}

// ofUnit is IsUnit for a file. p.mu is held.
func (p *Activation) ofUnit(f *os.File) bool {
	if len(p.units) == 0 {
		return false
	}
	inode, ok := inodeOf(f)
	return ok && slices.Contains(p.units, inode)
}

// noPath reports whether the address is a path that does not exist: clients cannot reach a socket whose path was removed.
func noPath(network, addr string) bool {
	if !strings.HasPrefix(network, "unix") || strings.HasPrefix(addr, "@") {
		return false
	}
	_, err := os.Lstat(addr)
	return errors.Is(err, fs.ErrNotExist)
}

// Stale reports whether a kept socket was not taken because clients cannot reach the socket.
func (p *Activation) Stale(name string) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.stale, name)
}

func (p *Activation) names() []string {
	names := []string{}
	for _, f := range p.Files {
		if !strings.HasPrefix(f.Name(), StorePrefix) {
			names = append(names, f.Name())
		}
	}
	return names
}

func fileSocket(f *os.File, kind string) (any, error) {
	if kind == "listener" {
		ln, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		return ln, nil
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return pc, nil
}

// boundTo reports whether a socket has the address that the program asks for.
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

// EachKept calls each with the kept sockets that belong to no socket unit and were not taken.
func (p *Activation) EachKept(each func(*os.File)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	for _, f := range p.Files {
		if strings.HasPrefix(f.Name(), StorePrefix) && !p.ofUnit(f) {
			each(f)
		}
	}
}

// HasKept reports whether there are sockets for EachKept.
func (p *Activation) HasKept() (has bool) {
	p.EachKept(func(*os.File) { has = true })
	return has
}

// TakeKept takes the first socket of EachKept for which is reports true, as a net.Listener or a net.PacketConn, and returns the
// name under which the socket was kept; nil if there is none. Stale sockets are left out.
func (p *Activation) TakeKept(kind string, is func(*os.File) bool) (sock any, name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.Files {
		if !strings.HasPrefix(f.Name(), StorePrefix) || p.ofUnit(f) || slices.Contains(p.stale, f.Name()) || !is(f) {
			continue
		}
		if sock, err = fileSocket(f, kind); err != nil {
			return nil, "", fmt.Errorf("the socket %q that was kept: %w", f.Name(), err)
		}
		f.Close()
		p.Files = append(p.Files[:i:i], p.Files[i+1:]...)
		return sock, f.Name(), nil
	}
	return nil, "", nil
}

// Unclaimed returns the kept sockets that were not taken, and the names of all kept ones. It closes the rest of the units'
// sockets.
func (p *Activation) Unclaimed() (kept []*os.File, names []string) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	for _, f := range p.Files {
		isKept := strings.HasPrefix(f.Name(), StorePrefix)
		if isKept {
			names = append(names, f.Name())
		}
		if isKept && !p.ofUnit(f) {
			kept = append(kept, f)
		} else {
			f.Close()
		}
	}
	p.Files = nil
	return kept, names
}

// TakeFile takes a file by its name; nil if there is none.
func (p *Activation) TakeFile(name string) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.Files {
		if f.Name() == name {
			p.Files = append(p.Files[:i:i], p.Files[i+1:]...)
			return f
		}
	}
	return nil
}

// OwnListenPID sets LISTEN_PID to this process: this library's supervisor cannot know the pid before the start, and systemd
// names the pid outside of the namespace for process 1 of a unit with PrivatePIDs=.
func OwnListenPID() {
	ownOutside(os.Getpid())
	if IsSupervised() && os.Getenv("LISTEN_FDS") != "" && os.Getenv("LISTEN_PID") == "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
}

// ownOutside replaces a pid from outside of the PID namespace by the pid inside, in the variables of systemd.
func ownOutside(pid int) {
	outside := os.Getenv("SYSTEMD_EXEC_PID")
	if pid != 1 || outside == "" {
		return
	}
	for _, name := range []string{"LISTEN_PID", watchdogPID} {
		if os.Getenv(name) == outside {
			os.Setenv(name, "1")
		}
	}
}
