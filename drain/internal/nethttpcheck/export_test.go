package nethttpcheck

import (
	"net"
	"net/http"
)

// Run calls run: good reports whether serve reads in the known way, and late whether a step took too long.
func Run(serve func(*http.Server, net.Listener)) (good, late bool) { return run(serve) }
