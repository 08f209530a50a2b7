package upgrade

import (
	"errors"
	"net"
	"os"
)

func (m note) write(*net.UnixConn) error { return errors.ErrUnsupported }

func (r *socketRef) storable() *os.File { return nil }

func monotonicMicros() int64 { return 0 }

func hasParent() bool { return false }

func restoreName() {}
