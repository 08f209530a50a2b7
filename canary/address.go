package canary

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ByAddress returns a function for Options.Key that keeps the requests of one client address on one side. Of an IPv6 address the
// first 64 bits count, since a client changes the others.
//
// The address is Request.RemoteAddr. If this is the address of a trusted proxy, or of a Unix socket, the address is the last one in
// X-Forwarded-For that is not the address of a trusted proxy. A client can write anything into the header, so name only proxies
// that append to it or replace it. Requests of one address may come from many clients, and a request without an address, or with
// a damaged header, has no key.
//
// A cache cannot compare addresses: do not name X-Forwarded-For in Options.Vary.
func ByAddress(trusted ...netip.Prefix) func(*http.Request) string {
	proxies := addresses(slices.Clone(trusted))
	return func(r *http.Request) string {
		peer, ok := parseAddress(r.RemoteAddr) // a middleware may have left out the port
		if ok && !proxies.have(peer) {
			return addressKey(peer)
		}
		if !ok && !isUnix(r.RemoteAddr) {
			return ""
		}
		client, ok := proxies.client(r.Header["X-Forwarded-For"])
		if !ok {
			return ""
		}
		return addressKey(client)
	}
}

// isUnix reports whether the address of a peer is that of a Unix socket, which has a path or no name.
func isUnix(addr string) bool { return addr == "" || addr[0] == '@' || addr[0] == '/' }

// addresses are those of trusted proxies.
type addresses []netip.Prefix

func (a addresses) have(addr netip.Addr) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// client returns the last address in lines of X-Forwarded-For that is not a proxy.
func (a addresses) client(lines []string) (netip.Addr, bool) {
	for n := len(lines) - 1; n >= 0; n-- {
		for rest, more := lines[n], true; more; {
			var last string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, last = rest[:at], rest[at+1:]
			} else {
				last, more = rest, false
			}
			addr, ok := parseAddress(strings.TrimSpace(last))
			if !ok || !a.have(addr) {
				return addr, ok
			}
		}
	}
	return netip.Addr{}, false
}

// parseAddress also takes an address with a port, as some proxies write it.
func parseAddress(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		var both netip.AddrPort
		both, err = netip.ParseAddrPort(text)
		addr = both.Addr()
	}
	return addr.Unmap(), err == nil
}

func addressKey(addr netip.Addr) string {
	addr = addr.WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	p, _ := addr.Prefix(64) // never fails: no IPv6 address has fewer bits
	return p.Addr().String()
}
