package plan

import (
	"github.com/midair-go/midair/internal/earlyhelper"
	"github.com/midair-go/midair/internal/earlyhelper/byos"
)

// HelpersEnv is the environment variable that asks for a helper from each place of a program where one may be started.
const HelpersEnv = earlyhelper.Env

// Helper is a process that a generation starts and leaves running: sleep, for a number of seconds that says who has started it.
type Helper string

// The helpers.
const (
	HelperOfEarlyInit Helper = earlyhelper.Seconds // by package syscall, in an init before all others
	HelperOfInit      Helper = byos.Seconds        // by package os, in an init
	HelperOfMain      Helper = "303"               // before upgrade.New
	HelperOfCheck     Helper = "304"
	HelperOfHandler   Helper = "305" // at a request to /helper
	HelperOfWrapper   Helper = "306" // of the script that becomes the program
)
