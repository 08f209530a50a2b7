package testutil

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is how a request has ended.
type Outcome uint8

// The outcomes of a request. All outcomes but OK are failures. No request is sent again.
const (
	OK          Outcome = iota // a complete answer with a status below 400
	DialRefused                // no process listens
	DialFailed                 // the connection failed for another reason
	WriteFailed                // the request could not be written
	NoResponse                 // the connection ended before the first byte of an answer
	Reset                      // the connection was reset before the first byte of an answer
	Partial                    // the connection ended in the middle of the answer
	Malformed                  // the answer could not be understood
	TimedOut                   // the answer was not complete in time
	BadStatus                  // a complete answer with a status of 400 or above
	outcomes                   // the number of outcomes
)

// String names the outcome.
func (o Outcome) String() string {
	return [outcomes + 1]string{"ok", "dial refused", "dial failed", "write failed", "no response", "reset", "partial",
		"malformed", "timed out", "bad status", "?"}[min(o, outcomes)]
}

// Answerer is the process that gave an answer, by the headers X-Version, X-Generation and X-Pid.
type Answerer struct {
	Version    string
	Generation string
	PID        int
}

// Record describes a request.
type Record struct {
	ID      string
	Start   time.Time // when the request was sent; in a load with a Rate, when it was due
	End     time.Time
	Status  int // 0 without an answer
	Slow    bool
	Outcome Outcome
	Err     string // why the request failed, and the address of its connection; only for the first failures of each client
	// Answerer is the process that gave the answer. If the request was not answered, Answerer is the process that gave the
	// previous answer on the same connection, or zero if there was no previous answer.
	Answerer
}

// onConnectionFrom is the text in Err before the client's address.
const onConnectionFrom = ", on a connection from "

// From returns the client's address on the connection of a lost request; empty if there was no connection, or if Err is empty.
func (r Record) From() string {
	_, from, _ := strings.Cut(r.Err, onConnectionFrom)
	return from
}

// String shows the record on one line.
func (r Record) String() string {
	return fmt.Sprintf("%s %s +%v %s status=%d version=%s generation=%s pid=%d %s", r.ID,
		r.Start.Format("15:04:05.000000"), r.End.Sub(r.Start).Round(time.Microsecond), r.Outcome, r.Status,
		r.Version, r.Generation, r.PID, r.Err)
}

// entry is a Record in a small form, since a long run has millions of records. The position of the entry in the log of its
// client is the number of the request.
type entry struct {
	start   time.Duration // since the begin of the load
	took    uint32        // in units of tick
	status  uint16
	who     uint16 // the number of the answerer in the roster
	outcome Outcome
	slow    bool
}

// tick is the resolution of a recorded duration. So the longest duration is seven minutes.
const tick = 100 * time.Nanosecond

func (e *entry) end() time.Duration { return e.start + time.Duration(e.took)*tick }

const (
	chunkSize = 1 << 12
	maxErrors = 256 // for how many failures of a client the text of the error is kept
)

// entryLog holds the entries of a client in chunks, so that a growing log does not copy its entries.
type entryLog struct {
	chunks [][]entry
	errors map[int]string
}

func (l *entryLog) add(e entry, err error) {
	last := len(l.chunks) - 1
	if last < 0 || len(l.chunks[last]) == chunkSize {
		l.chunks = append(l.chunks, make([]entry, 0, chunkSize))
		last++
	}
	l.chunks[last] = append(l.chunks[last], e)
	if err != nil && len(l.errors) < maxErrors {
		if l.errors == nil {
			l.errors = map[int]string{}
		}
		l.errors[l.len()-1] = err.Error()
	}
}

func (l *entryLog) len() int {
	if len(l.chunks) == 0 {
		return 0
	}
	return (len(l.chunks)-1)*chunkSize + len(l.chunks[len(l.chunks)-1])
}

func (l *entryLog) all() iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		for c, chunk := range l.chunks {
			for i := range chunk {
				if !yield(c*chunkSize+i, &chunk[i]) {
					return
				}
			}
		}
	}
}

// roster numbers the answerers of a load. The number 0 means that there is no answerer.
type roster struct {
	mu    sync.Mutex
	index map[Answerer]uint16
	list  []Answerer
}

func newRoster() *roster {
	return &roster{index: map[Answerer]uint16{{}: 0}, list: []Answerer{{}}}
}

// number returns the number of an answerer, which gets a new number at its first answer. If all numbers are in use, the
// result is 0.
func (r *roster) number(a Answerer) uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.index[a]
	if !ok && len(r.list) < 1<<16 {
		n = uint16(len(r.list))
		r.index[a] = n
		r.list = append(r.list, a)
	}
	return n
}

// has reports whether an answerer has the version.
func (r *roster) has(version string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.list[1:], func(a Answerer) bool { return a.Version == version })
}

// Report is the result of a load.
type Report struct {
	Begin, End time.Time
	Total      int
	Answered   int // complete answers with any status
	Counts     map[Outcome]int
	ByVersion  map[string]int // the number of complete answers, by version
	ByPID      map[int]int    // the number of complete answers, by process
	Failed     []Record       // all requests with another outcome than OK, in the order of their ends

	Dials      int // connections opened
	Announced  int // connections of KeepAlive clients whose last answer had Connection: close
	IdleClosed int // connections of KeepAlive clients that the server closed while they were idle
	Stray      int // connections that a client closed because the server had sent bytes without a request

	prefix string
	logs   []*entryLog
	who    []Answerer
}

// record returns the Record of the entry number n of client c.
func (r *Report) record(c, n int, e *entry) Record {
	return Record{
		ID:       requestID(r.prefix, c, n),
		Start:    r.Begin.Add(e.start),
		End:      r.Begin.Add(e.end()),
		Status:   int(e.status),
		Slow:     e.slow,
		Outcome:  e.outcome,
		Err:      r.logs[c].errors[n],
		Answerer: r.who[e.who],
	}
}

func requestID(prefix string, client, n int) string {
	return fmt.Sprintf("%s-%d-%d", prefix, client, n)
}

// entries yields every entry of every client.
func (r *Report) entries() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, l := range r.logs {
			for _, e := range l.all() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Records yields every request, client by client.
func (r *Report) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for c, l := range r.logs {
			for n, e := range l.all() {
				if !yield(r.record(c, n, e)) {
					return
				}
			}
		}
	}
}

func (e *entry) answered() bool { return e.outcome == OK || e.outcome == BadStatus }

// Percentile returns the latency that p percent of the answers did not exceed, for requests that started between from and to;
// a zero time is no limit. Requests to SlowPath are left out. If there are no answers, the result is 0.
func (r *Report) Percentile(p float64, from, to time.Time) time.Duration {
	var took []uint32
	for e := range r.entries() {
		if e.answered() && !e.slow && within(r.Begin.Add(e.start), from, to) {
			took = append(took, e.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	rank := int(math.Ceil(float64(len(took)) * p / 100))
	return time.Duration(took[max(0, min(rank, len(took))-1)]) * tick
}

// LongestGap returns the longest time between the ends of two successive answers, and when this time began. Only answers that
// ended between from and to count; a zero time is no limit.
func (r *Report) LongestGap(from, to time.Time) (gap time.Duration, at time.Time) {
	var ends []time.Duration
	for e := range r.entries() {
		if e.answered() && within(r.Begin.Add(e.end()), from, to) {
			ends = append(ends, e.end())
		}
	}
	slices.Sort(ends)
	for i := 1; i < len(ends); i++ {
		if d := ends[i] - ends[i-1]; d > gap {
			gap, at = d, r.Begin.Add(ends[i-1])
		}
	}
	return gap, at
}

func within(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (to.IsZero() || t.Before(to))
}

// FirstAnswer returns when the first answer of the version was complete; the zero time if there was no answer.
func (r *Report) FirstAnswer(version string) time.Time {
	first, _ := r.span(version)
	return first
}

// LastAnswer returns when the last answer of the version was complete; the zero time if there was no answer.
func (r *Report) LastAnswer(version string) time.Time {
	_, last := r.span(version)
	return last
}

func (r *Report) span(version string) (first, last time.Time) {
	for e := range r.entries() {
		if !e.answered() || r.who[e.who].Version != version {
			continue
		}
		end := r.Begin.Add(e.end())
		if first.IsZero() || end.Before(first) {
			first = end
		}
		if end.After(last) {
			last = end
		}
	}
	return first, last
}

// String shows the counts on one line.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v", r.Total, r.End.Sub(r.Begin).Round(time.Millisecond))
	for o := range outcomes {
		if n := r.Counts[o]; n > 0 {
			fmt.Fprintf(&b, ", %s %d", o, n)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(r.ByVersion)) {
		fmt.Fprintf(&b, ", version %q %d", v, r.ByVersion[v])
	}
	fmt.Fprintf(&b, "; %d connections, %d announced closes, %d closed idle", r.Dials, r.Announced, r.IdleClosed)
	return b.String()
}
