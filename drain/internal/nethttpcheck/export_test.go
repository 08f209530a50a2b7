package nethttpcheck

import (
	"net"
	"net/http"
)

// Run reports whether serve reads in the known way, and whether it took too long to find out.
func Run(serve func(*http.Server, net.Listener)) (good, late bool) { return run(serve) }
