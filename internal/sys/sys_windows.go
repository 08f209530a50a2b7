package sys

import (
	"errors"
	"net"
	"os"
	"syscall"
)

func DupFile(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }

func FD(*os.File) uintptr { return 0 }

func ConnFile(net.Conn) (*os.File, error) { return nil, errors.ErrUnsupported }

func UnixPair() (net.Conn, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func Explain(err error) error { return err }

func DupFD(int) (int, error) { return -1, errors.ErrUnsupported }

func MemFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func Seal(*os.File) error { return nil }

func CheckSeal(*os.File) error { return nil }

func MayWrite(string) bool { return false }

func Readable(uintptr) bool { return true }

func shutdownFD(uintptr) {}

func CloseFD(int) {}

func Duplicate(syscall.Conn) (int, uint64, error) { return -1, 0, errors.ErrUnsupported }
