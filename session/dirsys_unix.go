//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package session

import (
	"io/fs"
	"os"
	"syscall"
)

// A rawFile is a descriptor of a file on a disk. An [os.File] makes more system calls, because an os.File might be a pipe.
type rawFile int

// openRaw opens a file. It follows no symbolic link, and does not wait if the file is a pipe.
func openRaw(name string, flag int) (rawFile, error) {
	fd, err := again(func() (int, error) {
		return syscall.Open(name, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return rawFile(fd), nil
}

// again makes a system call until no signal comes in between.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// Read returns zero bytes at the end of the file.
func (f rawFile) Read(p []byte) (int, error) {
	n, err := again(func() (int, error) { return syscall.Read(int(f), p) })
	return max(n, 0), os.NewSyscallError("read", err)
}

func (f rawFile) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := again(func() (int, error) { return syscall.Write(int(f), p[written:]) })
		if err != nil {
			return written, os.NewSyscallError("write", err)
		}
		written += n
	}
	return written, nil
}

func (f rawFile) WriteAt(p []byte, at int64) (written int, err error) {
	for written < len(p) {
		n, err := again(func() (int, error) { return syscall.Pwrite(int(f), p[written:], at+int64(written)) })
		if err != nil {
			return written, os.NewSyscallError("pwrite", err)
		}
		written += n
	}
	return written, nil
}

func (f rawFile) Sync() error {
	_, err := again(func() (int, error) { return 0, syscall.Fsync(int(f)) })
	return os.NewSyscallError("fsync", err)
}

func (f rawFile) Close() error { return os.NewSyscallError("close", syscall.Close(int(f))) }

// tryLock takes the lock of an existing file, if the lock is free.
func tryLock(name string) (lock rawFile, held bool, err error) {
	f, err := openRaw(name, os.O_RDWR)
	if err != nil {
		return 0, false, err
	}
	_, err = again(func() (int, error) { return 0, syscall.Flock(int(f), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err == nil {
		return f, true, nil
	}
	f.Close()
	if err == syscall.EWOULDBLOCK {
		err = nil
	}
	return 0, false, os.NewSyscallError("flock", err)
}
