package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/canary"
)

// browser is a wire with a cookie.
type browser struct {
	wire
	cookie string // name=value; empty: none yet
}

// get asks for a path and wants 200. After a deliberate error of v6, the request is sent again.
func (b *browser) get(path string) (http.Header, string, error) {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + b.addr + "\r\n"
	if b.cookie != "" {
		request += "Cookie: " + b.cookie + "\r\n"
	}
	resp, body, err := b.exchange(request + "\r\n")
	for err == nil && byBadRelease(resp) {
		resp, body, err = b.exchange(request + "\r\n")
	}
	if err != nil {
		b.hangUp()
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	for _, c := range resp.Cookies() {
		b.cookie = c.Name + "=" + c.Value
	}
	body = strings.TrimSpace(body)
	if resp.StatusCode != http.StatusOK {
		return resp.Header, body, fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return resp.Header, body, nil
}

// visitor is a client that the service has to recognise. A visitor checks the count of the service against the number of answers,
// and never goes back from the canary side.
type visitor struct {
	browser
	counted int      // answers of /count
	marks   []string // the sides at the moments that the table shows

	mu     sync.Mutex
	rounds int
	side   string
	wrong  []string // what the service has got wrong
}

// round asks for the count and for the cart.
func (v *visitor) round() {
	_, count, err := v.get("/count")
	if err != nil {
		v.complain("%v", err)
	} else if v.counted++; count != strconv.Itoa(v.counted) {
		v.complain("the count is %s instead of %d", count, v.counted)
	}
	_, side, err := v.get("/cart")
	if err != nil {
		v.complain("%v", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rounds++
	if err != nil {
		return
	}
	if v.side == canary.Canary.String() && side != v.side {
		v.wrong = append(v.wrong, "it went from canary back to "+side)
	}
	v.side = side
}

func (v *visitor) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.wrong) < mostLosses {
		v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
	}
}

func (v *visitor) seen() (rounds int, side string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rounds, v.side
}

// visitors are all visitors of the demo.
type visitors struct {
	all     []*visitor
	ending  chan struct{}
	running sync.WaitGroup
}

// startVisitors starts n visitors. They come again and again until stop.
func startVisitors(addr string, n int) *visitors {
	vs := &visitors{ending: make(chan struct{})}
	for range n {
		v := &visitor{browser: browser{wire: wire{addr: addr}}}
		vs.all = append(vs.all, v)
		vs.running.Go(func() { vs.visit(v) }) // ends with ending
	}
	return vs
}

func (vs *visitors) visit(v *visitor) {
	defer v.hangUp()
	pause := time.NewTicker(2 * thinkTime)
	defer pause.Stop()
	for {
		select {
		case <-vs.ending:
			return
		case <-pause.C:
			v.round()
		}
	}
}

// since returns a function that reports whether every visitor has begun and ended a round since the call of since.
func (vs *visitors) since() func() bool {
	begin := make([]int, len(vs.all))
	for i, v := range vs.all {
		begin[i], _ = v.seen()
	}
	return func() bool {
		for i, v := range vs.all {
			if rounds, _ := v.seen(); rounds < begin[i]+2 {
				return false
			}
		}
		return true
	}
}

// mark stores the side of each visitor.
func (vs *visitors) mark() {
	for _, v := range vs.all {
		_, side := v.seen()
		v.marks = append(v.marks, side)
	}
}

// stop lets all visitors finish their round, and asks the service for their counts once more.
func (vs *visitors) stop() (counts []int) {
	close(vs.ending)
	vs.running.Wait()
	for _, v := range vs.all {
		defer v.hangUp()
		var a visitorAnswer
		_, body, err := v.get("/visitor")
		if err == nil {
			err = json.Unmarshal([]byte(body), &a)
		}
		if err != nil {
			v.complain("%v", err)
		}
		counts = append(counts, a.Count)
	}
	return counts
}

// moments are the columns of the table with the sides of a visitor.
var moments = []string{"at 0 %", "at 50 %", "5 upgrades later", "at 100 %"}

// verdict returns the mistakes of the service towards a visitor.
func (v *visitor) verdict(count int) []string {
	failed := slices.Clone(v.wrong)
	if count != v.counted {
		failed = append(failed, fmt.Sprintf("the count is %d at the end, after %d answers", count, v.counted))
	}
	stable, cart := canary.Stable.String(), canary.Canary.String()
	if len(v.marks) != len(moments) || v.marks[0] != stable || v.marks[1] != v.marks[2] || v.marks[3] != cart {
		failed = append(failed, fmt.Sprintf("it was on the sides %v", v.marks))
	}
	return failed
}

const visitorColumns = "%-10s%-9s%-10s%-19s%-12s%9s%9s\n"

// visitorTable prints the table of the visitors, and returns the mistakes of the service.
func visitorTable(s screen, vs []*visitor, counts []int) (failed []string) {
	head := fmt.Sprintf(visitorColumns, "visitor", moments[0], moments[1], moments[2], moments[3], "answers", "count")
	fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, strings.TrimSpace(head)))
	for i, v := range vs {
		row := []any{strconv.Itoa(i + 1), "", "", "", "", thousands(v.counted), thousands(counts[i])}
		for j, side := range v.marks {
			row[j+1] = side
		}
		fmt.Fprintf(s.w, visitorColumns, row...)
		for _, wrong := range v.verdict(counts[i]) {
			failed = append(failed, fmt.Sprintf("visitor %d: %s", i+1, wrong))
		}
	}
	return failed
}
