package upgrade

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// Windows builds and serves, and an upgrade answers errors.ErrUnsupported before anything here is reached.

const controlName = "midair-control"

type started struct {
	pid     int
	control *os.File
	ready   chan struct{}
	exited  chan struct{}
	status  string
}

const canRunDescriptor = false

func openSelf() (*os.File, error) { return nil, errors.ErrUnsupported }

func dupFile(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }

func executableOf(int) string { return "" }

func descriptorPath(uintptr, bool) string { return "" }

func fdOf(*os.File) uintptr { return 0 }

func connFile(net.Conn) (*os.File, error) { return nil, errors.ErrUnsupported }

func unixPair() (net.Conn, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func checkExecutable(string) (string, error) { return "", errors.ErrUnsupported }

func start(program, []string, []inheritedFile) (*started, error) { return nil, errors.ErrUnsupported }

func explain(err error) error { return err }

func dupFD(int) (int, error) { return -1, errors.ErrUnsupported }

func (c *started) signal(os.Signal) {}

func (c *started) kill() {}

func (c *started) close() {}

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
