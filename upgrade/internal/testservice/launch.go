//go:build linux

package testservice

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// launch is the part of systemd between fork and exec: the process receives the sockets of the service and becomes the service.
func launch() error {
	c, err := net.Dial("unix", os.Getenv(plan.ManagerEnv)+"/pass")
	if err != nil {
		return err
	}
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := c.(*net.UnixConn).ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	names := strings.TrimSpace(string(buf[:n]))
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	env := append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MIDAIR_TEST_ROLE=") }),
		"MIDAIR_TEST_ROLE=service", "WATCHDOG_PID="+pid, "SYSTEMD_EXEC_PID="+pid)
	for _, msg := range msgs {
		fds, _ := unix.ParseUnixRights(&msg)
		for i, fd := range fds { // out of the way first
			if fds[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100); err != nil {
				return err
			}
		}
		for i, fd := range fds {
			if err := unix.Dup3(fd, 3+i, 0); err != nil {
				return err
			}
		}
		env = append(env, fmt.Sprint("LISTEN_FDS=", len(fds)), "LISTEN_FDNAMES="+names, "LISTEN_PID="+pid)
	}
	return syscall.Exec("/proc/self/exe", os.Args, env)
}
