package canary

import (
	"fmt"
	"net/http"
	"strings"
)

// ByHeader lets a client choose the side itself, by the value of a request header: "true" is the canary and "false" is stable,
// in any case of the letters. The results are for Options.Choose and Options.Vary:
//
//	opts.Choose, opts.Vary = canary.ByHeader("canary")
//
// If Options.Key reads other headers, append their names to Vary: a cache would otherwise give the answer of one side to clients of
// the other.
//
// Everybody who can reach the service can send the header: use ByHeader only where strangers may see the canary, or where the
// edge removes the header.
func ByHeader(name string) (choose func(*http.Request) (Side, bool), vary []string) {
	name = http.CanonicalHeaderKey(name)
	return func(r *http.Request) (Side, bool) {
		if values := r.Header[name]; len(values) > 0 {
			return chosen(values[0])
		}
		return Stable, false
	}, []string{name}
}

// ByCookie is like [ByHeader], but the client chooses by a cookie, such as one that an internal page sets for testers. If the
// client sends several cookies with the name, the first value that chooses a side counts.
func ByCookie(name string) (choose func(*http.Request) (Side, bool), vary []string) {
	prefix := name + "="
	return func(r *http.Request) (side Side, ok bool) {
		eachCookie(r.Header["Cookie"], prefix, func(value string) bool {
			side, ok = chosen(value)
			return ok
		})
		return side, ok
	}, []string{"Cookie"}
}

// chosen returns the side that a value of a header or a cookie chooses, and false for other values.
func chosen(value string) (Side, bool) {
	switch {
	case strings.EqualFold(value, "true"):
		return Canary, true
	case strings.EqualFold(value, "false"):
		return Stable, true
	}
	return Stable, false
}

// ByRoute chooses the side of all requests for the given routes. A route is a path, "/beta", or a method and a path,
// "POST /orders". A path that ends in a slash is that of all requests below it. GET is also HEAD, as in [http.ServeMux]. The path
// of a request is compared as the request has it.
//
// The answers depend on nothing that caches do not compare anyway, so vary is not nil, and empty. This holds for Choose alone: a
// key needs names in Vary all the same. A route that has neither form is an error.
func ByRoute(side Side, routes ...string) (choose func(*http.Request) (Side, bool), vary []string, err error) {
	var list []route
	for _, text := range routes {
		rt, ok := parseRoute(text)
		if !ok {
			return nil, nil, fmt.Errorf(`canary: the route %q: want a path, "/beta", or a method and a path, "POST /orders"`, text)
		}
		list = append(list, rt)
	}
	return func(r *http.Request) (Side, bool) {
		for _, rt := range list {
			if rt.matches(r) {
				return side, true
			}
		}
		return Stable, false
	}, []string{}, nil
}

// A route is what ByRoute compares a request with.
type route struct{ method, path string }

func parseRoute(text string) (rt route, ok bool) {
	method, path, both := strings.Cut(text, " ")
	if !both {
		method, path = "", text
	}
	return route{method, path}, strings.HasPrefix(path, "/") && !strings.ContainsAny(path, " {}") && both == (method != "")
}

func (rt route) matches(r *http.Request) bool {
	sameMethod := rt.method == "" || rt.method == r.Method || rt.method == http.MethodGet && r.Method == http.MethodHead
	below := strings.HasSuffix(rt.path, "/") && strings.HasPrefix(r.URL.Path, rt.path)
	return sameMethod && (below || r.URL.Path == rt.path)
}

// eachCookie calls fn with the values of a cookie, whose name and "=" is prefix, until fn returns true.
func eachCookie(lines []string, prefix string, fn func(value string) bool) {
	for _, line := range lines {
		for at := strings.Index(line, prefix); at >= 0; at = strings.Index(line, prefix) {
			begins := at == 0 || line[at-1] == ' ' || line[at-1] == ';'
			line = line[at+len(prefix):]
			if !begins {
				continue // the end of another name
			}
			if value, _, _ := strings.Cut(line, ";"); fn(value) {
				return
			}
		}
	}
}
