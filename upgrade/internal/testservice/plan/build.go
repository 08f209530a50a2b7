package plan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

const (
	buildMark = "\nbuild "
	markWidth = 10
)

// CopyBuild makes another build of a program: a copy that ends with the name of the build.
func CopyBuild(from, to, build string) error {
	// A process that another test forks meanwhile would have the file open for writing until its exec: text file busy.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) // for a service of another user too
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		_, err = fmt.Fprintf(dst, "%s%*s", buildMark, markWidth, build)
	}
	return errors.Join(err, dst.Close())
}

// BuildOf returns the name of the build that a process runs, "original" without CopyBuild.
func BuildOf(pid int) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", err
	}
	defer f.Close()
	tail := make([]byte, len(buildMark)+markWidth)
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return "", err
	}
	build, ok := strings.CutPrefix(string(tail), buildMark)
	if !ok {
		return "original", nil
	}
	return strings.TrimSpace(build), nil
}
