//go:build !unix

package servers

import "os"

// Processes cannot be suspended here: the signals do nothing.
var suspend, resume = os.Interrupt, os.Interrupt

func runs(int) bool { return false }
