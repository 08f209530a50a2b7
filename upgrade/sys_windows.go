package upgrade

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// Windows builds and serves, and an upgrade answers errors.ErrUnsupported before anything here is reached.

const controlName = "midair-control"

type child struct {
	pid    int
	link   *link
	ready  chan struct{}
	exited chan struct{}
	status string
}

const canRunDescriptor = false

func openSelf() (*os.File, error) { return nil, errors.ErrUnsupported }

func dupFile(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }

func executableOf(int) string { return "" }

func descriptorPath(uintptr, bool) string { return "" }

func fdOf(*os.File) uintptr { return 0 }

func connFile(net.Conn) (*os.File, error) { return nil, errors.ErrUnsupported }

func unixPair() (net.Conn, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func checkExecutable(Options) (string, error) { return "", errors.ErrUnsupported }

func startChild(Options, program, *listeners) (*child, error) { return nil, errors.ErrUnsupported }

func (c *child) signal(os.Signal) {}

func (c *child) kill() {}

func (c *child) close() {}

func newSocket(file *os.File) (wire, error) {
	file.Close()
	return nil, errors.ErrUnsupported
}

func memFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func seal(*os.File) error { return nil }

func checkSeal(*os.File) error { return nil }

func mayWrite(string) bool { return false }

func catches(int, syscall.Signal) bool { return true }

func inheritedFDs() map[uint64][]int { return nil }

func coverFDs(uint64, []int) {}

func readable(uintptr) bool { return true }

func shutdownFD(uintptr) {}

func closeFD(int) {}

func duplicate(syscall.Conn) (int, uint64, error) { return -1, 0, errors.ErrUnsupported }

func scrub() {}
