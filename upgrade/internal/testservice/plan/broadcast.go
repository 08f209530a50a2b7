package plan

import (
	"path/filepath"
	"strconv"
)

// Say is an order to a process of a service with Broadcasts: to broadcast messages, one after the other. The order is a file.
type Say struct {
	Name string
	Data []string
	Dies bool // the process kills itself when the last call of Broadcast has returned
}

// The names of messages for which a service with Broadcasts has a function.
const (
	News   = "news"   // writes the message down
	Late   = "late"   // the same; registered when the file "register" is there
	Blocks = "blocks" // does not return until the file "go" is there
	Panics = "panics"
	Asks   = "asks" // broadcasts the data as News
)

// SayFile is the file with the order for a process. The process removes it when the order is carried out.
func SayFile(dir string, pid int) string { return filepath.Join(dir, "say-"+strconv.Itoa(pid)) }

// SaidFile is the file with the errors of Broadcast, a line each.
func SaidFile(dir string, pid int) string { return filepath.Join(dir, "said-"+strconv.Itoa(pid)) }

// HeardFile is the file with the messages that a process has got, a line each: the name, and the data after a space.
func HeardFile(dir string, pid int) string { return filepath.Join(dir, "heard-"+strconv.Itoa(pid)) }
