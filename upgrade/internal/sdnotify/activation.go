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
)

// Network is the network to pass to Listen for a socket that is named in a socket unit of systemd.
const Network = "systemd"

// StorePrefix is the prefix of the names under which a service manager keeps sockets for this package.
const StorePrefix = "midair."

// MostSockets is how many open sockets a process can pass on to another process. The supervisor of the library can hold the
// same number.
const MostSockets = 8192

// storeNameLimit is systemd's limit for the length of FDNAME, in bytes.
const storeNameLimit = 255

// Activation holds the sockets that a service manager has passed to this process at its start: the sockets of socket units, and
// the sockets that the manager kept for an earlier process. Listen of package upgrade looks for a socket here if no older
// generation has passed the socket.
type Activation struct {
	mu    sync.Mutex // guards the fields; not held while a file system or a name server is asked
	Files []*os.File // what was passed, also if it was taken; first the sockets of socket units, as systemd orders them
	taken map[*os.File]bool
	stale []string // the names of kept sockets whose path does not exist, see Stale

	// The method look sets these fields.
	known  int                   // how many elements of Files the fields describe
	named  map[string][]*os.File // Files by name
	others []*os.File            // the elements of Files that are not kept sockets
	units  []uint64              // the inodes of the sockets of socket units
	left   int                   // how many kept sockets were not taken
}

// TakeActivation takes the sockets that LISTEN_FDS and LISTEN_FDNAMES describe. It unsets these variables and LISTEN_PID,
// because they are not meant for the children of this process.
func TakeActivation() *Activation {
	OwnListenPID()
	return &Activation{Files: activation.Files(true)}
}

// Add adds named sockets that this process has received after its start: the supervisor of the library sends its sockets over
// the channel.
func (p *Activation) Add(files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Files = append(p.Files, files...)
}

// StoreName returns the name under which a service manager keeps a socket. The name is printable, has no colon, and is the same
// in every generation. If the name would be longer than systemd allows, the result is empty.
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

// Take returns the passed socket that the program asks for, as a net.Listener or a net.PacketConn. It finds a socket of a
// socket unit by addr, and a kept socket by the name that StoreName returns for key. If there is no such socket, the result is
// nil. Then Take also returns an error if network is Network.
func (p *Activation) Take(kind, network, addr, key string) (any, error) {
	if p == nil {
		return nil, nil
	}
	own := StoreName(kind, network, key)
	for _, f := range p.candidates(own) {
		stored := strings.HasPrefix(f.Name(), StorePrefix)
		switch {
		case f.Name() == own && own != "" && noPath(network, addr):
			p.noteStale(own)
			continue
		case f.Name() == own && own != "":
		case network == Network && f.Name() == addr:
		case !stored && network != Network && boundTo(f, kind, network, addr):
		default:
			continue
		}
		sock, err := p.takeSocket(f, kind)
		if err != nil {
			return nil, fmt.Errorf("the socket %q that was passed: %w", f.Name(), err)
		}
		if sock != nil {
			return sock, nil
		}
	}
	if network == Network {
		return nil, fmt.Errorf("no socket named %q was passed, only %q: FileDescriptorName= in its socket unit names it, and it may be taken once", addr, p.names())
	}
	return nil, nil
}

// takeSocket takes a passed socket. sock is nil if the socket was taken in the meantime.
func (p *Activation) takeSocket(f *os.File, kind string) (sock any, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.look(); p.taken[f] || !slices.Contains(p.named[f.Name()], f) {
		return nil, nil
	}
	if sock, err = fileSocket(f, kind); err != nil {
		return nil, err
	}
	f.Close()
	p.take(f)
	return sock, nil
}

func (p *Activation) noteStale(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale = append(p.stale, name)
}

// IsUnit reports whether the socket with this inode belongs to a socket unit. A manager can pass such a socket twice: for the
// socket unit, and as a kept socket, whose name has StorePrefix. The result is true also if Take has returned the kept socket.
func (p *Activation) IsUnit(inode uint64) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.units, inode)
}

// noPath reports whether addr is the path of a unix socket, and the path does not exist. Clients cannot connect to such a
// socket.
func noPath(network, addr string) bool {
	if !strings.HasPrefix(network, "unix") || strings.HasPrefix(addr, "@") {
		return false
	}
	_, err := os.Lstat(addr)
	return errors.Is(err, fs.ErrNotExist)
}

// Stale reports whether Take has passed over a kept socket of this name. Take does so if the path of a unix socket does not
// exist, because clients cannot connect to such a socket.
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
	for _, f := range p.candidates("") {
		names = append(names, f.Name())
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

// boundTo reports whether the socket in f is bound to the address that the program asks for.
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

// EachKept calls the function each with every kept socket that belongs to no socket unit and was not taken.
func (p *Activation) EachKept(each func(*os.File)) {
	for _, f := range p.kept() {
		each(f)
	}
}

// kept returns the kept sockets that belong to no socket unit and were not taken.
func (p *Activation) kept() (files []*os.File) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	for _, f := range p.Files {
		if !p.taken[f] && strings.HasPrefix(f.Name(), StorePrefix) && !p.ofUnit(f) {
			files = append(files, f)
		}
	}
	return files
}

// HasKept reports whether there is a socket with which EachKept calls its function.
func (p *Activation) HasKept() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	p.look()
	left, units := p.left, len(p.units)
	p.mu.Unlock()
	return left > 0 && (units == 0 || len(p.kept()) > 0)
}

// TakeKept takes a kept socket that belongs to no socket unit. It takes the first such socket that is not stale (see Stale) and
// for which the function matches returns true. It returns the socket as a net.Listener or a net.PacketConn, and the name under
// which the socket was kept. sock is nil if there is no such socket.
func (p *Activation) TakeKept(kind string, matches func(*os.File) bool) (sock any, name string, err error) {
	for _, f := range p.kept() {
		if p.Stale(f.Name()) || !matches(f) {
			continue
		}
		if sock, err = p.takeSocket(f, kind); err != nil {
			return nil, "", fmt.Errorf("the socket %q that was kept: %w", f.Name(), err)
		}
		if sock != nil {
			return sock, f.Name(), nil
		}
	}
	return nil, "", nil
}

// Unclaimed returns the kept sockets that were not taken and belong to no socket unit. It closes all other sockets that were
// not taken. names has the names of all kept sockets that were not taken, closed or not.
func (p *Activation) Unclaimed() (kept []*os.File, names []string) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	for _, f := range p.Files {
		if p.taken[f] {
			continue
		}
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
	p.Files, p.known, p.named, p.others, p.left = nil, 0, nil, nil, 0
	return kept, names
}

// TakeFile takes the file with this name. The result is nil if there is no such file.
func (p *Activation) TakeFile(name string) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	for _, f := range p.named[name] {
		if !p.taken[f] {
			p.take(f)
			return f
		}
	}
	return nil
}

// OwnListenPID sets LISTEN_PID to the pid of this process in two cases. First, the supervisor of the library leaves LISTEN_PID
// out, because it does not know the pid before the start. Second, for process 1 of a unit with PrivatePIDs=, systemd sets the
// pid that the process has outside of its PID namespace. In the second case OwnListenPID corrects WATCHDOG_PID too.
func OwnListenPID() {
	ownOutside(os.Getpid())
	if IsSupervised() && os.Getenv("LISTEN_FDS") != "" && os.Getenv("LISTEN_PID") == "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
}

// ownOutside corrects LISTEN_PID and WATCHDOG_PID for process 1 of a PID namespace: if a variable is the pid that the process
// has outside of the namespace, ownOutside sets the variable to 1.
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
