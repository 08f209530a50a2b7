package plan

import (
	"bytes"
	"debug/elf"
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

// markStart is how the mark of a build begins that takes its sockets from the control socket.
const markStart = "midair: this build takes its listening sockets"

// CopyUnmarked makes a copy of a program that has no mark: what a packed program or one without the library looks like.
func CopyUnmarked(from, to string) error {
	if err := CopyBuild(from, to, "unmarked"); err != nil {
		return err
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	program, err := elf.NewFile(file)
	if err != nil {
		return err
	}
	data := program.Section(".noptrdata")
	content, err := data.Data()
	if err != nil {
		return err
	}
	at := bytes.Index(content, []byte(markStart))
	if at < 0 {
		return fmt.Errorf("%s has no mark", from)
	}
	_, err = file.WriteAt([]byte("M"), int64(data.Offset)+int64(at))
	return err
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
