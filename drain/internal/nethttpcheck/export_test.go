package nethttpcheck

import (
	"net"
	"net/http"
)

// Watch reports whether serve reads in the known way, and whether it took too long to find out.
func Watch(serve func(*http.Server, net.Listener)) (good, late bool) { return watch(serve) }
