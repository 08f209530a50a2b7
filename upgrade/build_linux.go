package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// buildOf takes hold of what a process runs: the executable, whatever becomes of its file, with arguments and
// environment.
func buildOf(pid int, version string) (*build, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.OpenFile(dir+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	args, err1 := zeroList(dir + "/cmdline")
	env, err2 := zeroList(dir + "/environ")
	err = errors.Join(err1, err2)
	if err == nil && len(args) == 0 {
		err = errors.New("it has none, or is dead")
	}
	if err != nil {
		exe.Close()
		return nil, fmt.Errorf("arguments and environment of pid %d: %w", pid, err)
	}
	return &build{exe: exe, args: args, version: version, env: env}, nil
}

// zeroList reads strings that end with a zero byte.
func zeroList(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00"), nil
}
