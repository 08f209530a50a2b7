package process

import (
	"bytes"
	"os"
	"strconv"
)

// ParentOf returns the parent of a process; 0 if it is not there.
func ParentOf(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 || string(fields[0]) == "Z" {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[1]))
	return n
}
