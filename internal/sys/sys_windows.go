package sys

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// SocketPair returns errors.ErrUnsupported.
func SocketPair() (ours, theirs *os.File, err error) { return nil, nil, errors.ErrUnsupported }

func closeOnExec(int) {}

func closeFD(int) {}

func dupFD(int) (int, error) { return -1, errors.ErrUnsupported }

func duplicate(syscall.Conn) (int, uint64, error) { return -1, 0, errors.ErrUnsupported }

func shutdownFD(uintptr) {}

func streamPair() ([2]int, error) { return [2]int{}, errors.ErrUnsupported }

func memFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func seal(*os.File) error { return nil }

func checkSeal(*os.File) error { return nil }

func empty(*os.File) {}

func readable(uintptr) bool { return true }

func mayWrite(string) bool { return false }

// watcher does nothing on Windows.
type watcher struct{}

const nohup = false

func watchTerminal() *Terminal { return &Terminal{} }

func (*watcher) ends() bool { return false }

func (*watcher) close() {}

var started = time.Now()

func uptime() time.Duration { return time.Since(started) }

func explain(err error) error { return err }

func fileConn(file *os.File) (net.Conn, error) { return net.FileConn(file) }

func copyKeepAlive(to *net.TCPConn, _ syscall.Conn) { _ = to.SetKeepAlive(false) } // fails if the connection is closed
