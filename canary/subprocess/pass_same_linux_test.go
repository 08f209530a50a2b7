package subprocess_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// front serves a handler to clients over TCP.
func front(t testing.TB, h http.Handler) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

var date = regexp.MustCompile(`Date: \w{3}, \d\d \w{3} 20\d\d [\d:]{8} GMT`)

// wire sends a request as it is, and returns the answers as they are, with the chunks of the body put together, and whether the
// connection can be used for another request.
func wire(t testing.TB, addr, raw string) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	in := bufio.NewReader(io.TeeReader(c, &got))
	var seen strings.Builder
	method, _, _ := strings.Cut(raw, " ")
	for {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			fmt.Fprintf(&seen, "no answer: %v\n", err)
			return seen.String()
		}
		header, rest, _ := strings.Cut(got.String(), "\r\n\r\n")
		lines := strings.Split(date.ReplaceAllString(header, "Date: now"), "\r\n")
		slices.Sort(lines[1:]) // the server writes some lines last that the handler has not set
		fmt.Fprintln(&seen, strings.Join(lines, "\n"))
		if res.StatusCode < 200 {
			got.Reset()
			got.WriteString(rest)
			continue
		}
		body, err := io.ReadAll(res.Body)
		if len(body) > 5000 {
			body = fmt.Appendf(nil, "%d bytes, %x", len(body), sha256.Sum256(body))
		}
		fmt.Fprintf(&seen, "%s\n%v %v %v\n", body, err, res.TransferEncoding, res.Trailer)
		break
	}
	io.WriteString(c, "GET /again HTTP/1.1\r\nHost: again\r\n\r\n")
	again, err := http.ReadResponse(in, nil)
	if err == nil {
		fmt.Fprintln(&seen, "again", again.StatusCode)
	} else {
		fmt.Fprintln(&seen, "the connection is closed")
	}
	return seen.String()
}

// requests are requests whose bytes have something special.
var requests = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"GET /a%2Fb/%7euser/%c3%a4/ä;p=1?q=%20+&&=#f HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET //double//slash/../x/./ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /? HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /?? HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a?b?c=d HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a:b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://other.example/path?x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://user:word@other.example HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET https://other.example:8443/%2F? HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS /* HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nDo: nothing\r\n\r\n",
	"CONNECT /path HTTP/1.1\r\nHost: far.example:443\r\nDo: nothing\r\n\r\n",
	"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
	"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"PURGE!'x / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nuser-agent:\r\nACCEPT: 1\r\naccept: 2\r\nx_y: 1\r\nX-Empty:\r\nX-Empty:\r\nX-Tab: a\tb\r\nX-Latin: \xe4\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Connection: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nMidair-From: HTTP/1.1 https 1.2.3.4:5\r\nmidair-uri: /forged\r\nConnection: Midair-From\r\nDo: shows\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\nVia: 1.1 x\r\nAccept-Encoding: br\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
	"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nbo\r\n00002\r\ndy\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Sum, Other\r\n\r\n4\r\nbody\r\n0\r\nSum: 1\r\nSum: 2\r\nMore: 3\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nMore: 3\r\nMidair-From: x\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzz\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + strings.Repeat("x", 700<<10) + "\r\n\r\n",
	"GET /" + strings.Repeat("p", 100<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nDo: content\r\nRange: bytes=10-20\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nDo: content\r\nRange: bytes=0-1,10-20\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nDo: content\r\nRange: bytes=9000-\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nDo: content\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n",
}

// all returns requests for all Do lines, by several methods, too.
func all() []string {
	list := slices.Clone(requests)
	for _, set := range []map[string]http.HandlerFunc{before, answers} {
		for do := range set {
			for _, method := range []string{"GET", "HEAD", "PUT"} {
				if method == "HEAD" && strings.Contains(do, "after a part") {
					continue // the client has all of the answer then
				}
				list = append(list, fmt.Sprintf("%s / HTTP/1.1\r\nHost: a\r\nDo: %s\r\n\r\n", method, do))
			}
			if do != "hijacks" { // HTTP/1.1 is what the handler writes
				list = append(list, fmt.Sprintf("GET / HTTP/1.0\r\nHost: a\r\nDo: %s\r\n\r\n", do))
			}
			list = append(list, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nDo: %s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", do))
		}
	}
	slices.Sort(list)
	return list
}

// ignored are differences that have to be: the random boundary of an answer with two ranges, the lines of a client that look like those
// of the host, and the ports in an error of the client.
var ignored = []*regexp.Regexp{
	regexp.MustCompile(`[0-9a-f]{60}`), regexp.MustCompile(`(?m)^Midair-(From: \["HTTP|Uri).*\n`), regexp.MustCompile(`read tcp \S+`),
}

// A handler in the process finds what it would find in the host, and the client gets the same answer.
func TestProcessIsNoDifferenceForHandlerAndClient(t *testing.T) {
	here, there := front(t, http.HandlerFunc(mirror)), front(t, passing(t, "mirror"))
	for _, raw := range all() {
		compare(t, raw, here, there)
	}
}

func compare(t testing.TB, raw string, here, there *httptest.Server) {
	t.Helper()
	want, got := wire(t, here.Listener.Addr().String(), raw), wire(t, there.Listener.Addr().String(), raw)
	for _, own := range ignored {
		want, got = own.ReplaceAllString(want, ""), own.ReplaceAllString(got, "")
	}
	if got != want {
		t.Errorf("%.300q\nin the process:\n%s\nin the host:\n%s", raw, got, want)
	}
}

// Any request goes through. The seed is logged.
func TestProcessIsNoDifferenceForAnyRequest(t *testing.T) {
	here, there := front(t, http.HandlerFunc(mirror)), front(t, passing(t, "mirror"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		compare(t, anyRequest(random), here, there)
	}
}

func pick(random *rand.Rand, list ...string) string { return list[random.IntN(len(list))] }

// anyRequest makes a request out of parts.
func anyRequest(random *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(random, "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "ODD", "HEAD") + " ")
	b.WriteString(pick(random, "/", "/", "/", "//", "http://other/", "/%"))
	for range random.IntN(6) {
		b.WriteString(pick(random, "a", "%2F", "/", "%25", ";", "?", "&x=y", "=", "+", "%20", ":", "@", "..", "#", "é", "'", "(", "[", "%zz", "\"", "|"))
	}
	b.WriteString(pick(random, " HTTP/1.1", " HTTP/1.1", " HTTP/1.0") + "\r\nHost: " + pick(random, "a", "", "a:80", "[::1]", "A.Example.", "xn--a") + "\r\n")
	for range random.IntN(8) {
		name := pick(random, "Accept", "X-A", "x-a", "X_b", "Cookie", "Connection", "Keep-Alive", "Upgrade", "TE", "User-Agent", "Expect-Not",
			"Content-Type", "Content-Encoding", "If-Range", "Proxy-Authorization", "Date", "Via", "Cache-Control", "!#$%&'*+-.^_`|~")
		fmt.Fprintf(&b, "%s:%s%s\r\n", name, pick(random, " ", "", "\t"),
			pick(random, "", "a", "a, b", "close", "keep-alive", "upgrade", "X-A", "\"q\\\"", "a=b; c=d", "ü", "  two  words  ", "trailers"))
	}
	if random.IntN(2) == 0 {
		dos := []string{}
		for do := range answers {
			if do != "hijacks" && do != "closes" && !strings.Contains(do, "after a part") {
				dos = append(dos, do)
			}
		}
		slices.Sort(dos)
		fmt.Fprintf(&b, "Do: %s\r\n", pick(random, dos...))
	}
	body := strings.Repeat("x", random.IntN(2)*random.IntN(100_000))
	switch random.IntN(3) {
	case 0:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	case 1:
		b.WriteString("Transfer-Encoding: chunked\r\n" + pick(random, "", "Trailer: Sum\r\n") + "\r\n")
		for len(body) > 0 {
			n := 1 + random.IntN(len(body))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		b.WriteString("0\r\n" + pick(random, "", "Sum: 1\r\n") + "\r\n")
	default:
		b.WriteString("\r\n")
	}
	return b.String()
}
