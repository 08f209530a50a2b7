package upgrade

import (
	"os"
	"syscall"
)

// Windows builds and serves, and an upgrade answers ErrNotSupported before anything here is reached.

const controlName = "midair-control"

type child struct {
	pid    int
	link   *link
	ready  chan struct{}
	exited chan struct{}
	status string
}

func startChild(Options, *listeners) (*child, error) { return nil, ErrNotSupported }

func (c *child) signal(os.Signal) {}

func (c *child) kill() {}

func (c *child) close() {}

func newSocket(file *os.File) (wire, error) {
	file.Close()
	return nil, ErrNotSupported
}

func memFile(string) (*os.File, error) { return nil, ErrNotSupported }

func seal(*os.File) error { return nil }

func checkSeal(*os.File) error { return nil }

func socketFDs() map[uint64][]int { return nil }

func coverFDs(uint64, []int) {}

func closeFD(int) {}

func duplicate(syscall.Conn) (int, uint64, error) { return -1, 0, ErrNotSupported }

func scrub() {}
