package pidfile

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ReadLast returns the text that WriteLast of any process has written beside the pid file.
func ReadLast(pidFile string) ([]byte, error) { return os.ReadFile(pidFile + lastSuffix) }

// Read returns the pid that the file names.
func Read(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("pid file %s: %.40q is no pid of a service: is the file its Options.PIDFile?", file, b)
	}
	return pid, nil
}
