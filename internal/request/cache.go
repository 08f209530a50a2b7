package request

import (
	"net/http"
	"strings"
)

// Lines for AddVary and AddPrivate, which become parts of headers: nobody may change them.
var (
	varyCookie = []string{"Cookie"}
	varyAll    = []string{"*"}
	private    = []string{"private"}
)

// AddVary adds the names in line, one string with commas, to the Vary line of an answer, so that a cache gives the answer only
// to requests which have the same values in these header lines. The slice becomes a part of the header if no Vary is there:
// nobody may change it. Present names stay. All names are in one line afterwards, because some caches read only the last line.
//
// The name * says that no other request may get the answer, whatever the other names are. No name is beside it afterwards: nginx
// and Varnish know a Vary that is exactly *, and take the * in a list for the name of a header line, which no request has.
func AddVary(h http.Header, line []string) {
	if has(line, "*") || has(h["Vary"], "*") {
		h["Vary"] = varyAll
		return
	}
	addTo(h, "Vary", line)
}

// AddVaryCookie is AddVary for the name Cookie.
func AddVaryCookie(h http.Header) { AddVary(h, varyCookie) }

// AddPrivate forbids shared caches to store an answer. Present directives stay, and private outranks them.
func AddPrivate(h http.Header) { addTo(h, "Cache-Control", private) }

// addTo appends the elements of line that the list of a header does not have.
func addTo(h http.Header, name string, line []string) {
	present := h[name]
	list := strings.Join(present, ", ")
	if list == "" {
		h[name] = line
		return
	}
	for e := range strings.SplitSeq(line[0], ", ") {
		if !has(present, e) {
			list += ", " + e
		}
	}
	if len(present) > 1 || list != present[0] {
		h[name] = []string{list}
	}
}

func has(lines []string, element string) bool {
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(e), element) {
				return true
			}
		}
	}
	return false
}

var crossOrigin http.CrossOriginProtection

// MaySetIdentity reports whether the answer to r may give the client a new cookie that says who the client is. It returns false
// for a request that another site made a browser send with an unsafe method, such as a form POST: browsers leave out cookies
// with SameSite there, so that the visitor may have a cookie although r has none, and a new cookie would replace the old.
func MaySetIdentity(r *http.Request) bool { return crossOrigin.Check(r) == nil }
