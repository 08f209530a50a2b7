package canary_test

import (
	"net/netip"
	"testing"

	"github.com/midair-go/midair/canary"
)

// The key is the address of the connection, or what trusted proxies say. What a client writes into the header itself never counts.
func TestAddressIsTheKeyBehindNamedProxies(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, v := range []struct {
		peer  string
		lines []string
		want  string
	}{
		{"192.0.2.1:1234", nil, "192.0.2.1"},
		{"192.0.2.1:1234", []string{"203.0.113.9"}, "192.0.2.1"}, // a stranger is no proxy
		{"10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"192.0.2.1", []string{"203.0.113.9"}, "192.0.2.1"}, // a middleware has left out the port
		{"10.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"client.example:80", []string{"203.0.113.9"}, ""},
		{"/run/shop.sock", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"1.1.1.1, 203.0.113.9, 10.2.3.4"}, "203.0.113.9"}, // the client has written the first
		{"10.0.0.1:80", []string{"1.1.1.1", "203.0.113.9", "10.2.3.4,10.9.9.9"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"1.1.1.1, unknown, 10.2.3.4"}, ""},
		{"10.0.0.1:80", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"10.2.3.4"}, ""},
		{"10.0.0.1:80", []string{""}, ""},
		{"10.0.0.1:80", nil, ""},
		{"[::ffff:10.0.0.1]:80", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"[::ffff:192.0.2.1]:80", nil, "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:80", nil, "2001:db8:1:2::"},
		{"[fd00::1]:80", []string{"[2001:DB8:1:2:ffff::1]:5"}, "2001:db8:1:2::"},
		{"[fe80::1%eth0]:80", nil, "fe80::"},
		{"@", []string{"203.0.113.9"}, "203.0.113.9"}, // a Unix socket
		{"", nil, ""},
	} {
		r := request()
		r.RemoteAddr, r.Header["X-Forwarded-For"] = v.peer, v.lines
		if got := canary.ByAddress(proxies...)(r); got != v.want {
			t.Errorf("%s %q: %q, want %q", v.peer, v.lines, got, v.want)
		}
	}
}
