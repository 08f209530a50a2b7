package nethttpcheck

import (
	"net"
	"net/http"
)

// Watch reports whether serve reads in the known way.
func Watch(serve func(*http.Server, net.Listener)) bool { good, _ := watch(serve); return good }
