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

// Outcome says how a request ended.
type Outcome uint8

// The outcomes of a request. All but OK are failures; none is ever tried again.
const (
	OK          Outcome = iota // a complete answer with a status below 400
	DialRefused                // nobody listens
	DialFailed                 // no connection for another reason
	WriteFailed                // the request could not be written
	NoResponse                 // the connection ended before the first byte of an answer
	Reset                      // the connection was reset before the first byte of an answer
	Partial                    // the answer was cut
	Malformed                  // the answer could not be understood
	TimedOut                   // no complete answer in time
	BadStatus                  // a complete answer with a status of 400 or above
	outcomes                   // how many there are
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
	Start   time.Time // when it was sent, or in a paced load should have been sent
	End     time.Time
	Status  int // 0 without an answer
	Slow    bool
	Outcome Outcome
	Err     string // why it failed and on whose connection, for the first failures of each client
	// Answerer gave the answer. For a request that was not answered it is the process that gave the previous answer
	// on the same connection, zero if there was none.
	Answerer
}

// onConnectionFrom is in Err before the client's address.
const onConnectionFrom = ", on a connection from "

// From is the client's address on the connection of a lost request; empty without a connection, or without a kept address.
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

// entry is a Record as it is kept: a long run has millions. Its position in the log is its number in the client.
type entry struct {
	start   time.Duration // since the begin of the load
	took    uint32        // in units of tick
	status  uint16
	who     uint16 // index of the answerer
	outcome Outcome
	slow    bool
}

// tick is the resolution of a recorded duration: the longest is seven minutes.
const tick = 100 * time.Nanosecond

func (e *entry) end() time.Duration { return e.start + time.Duration(e.took)*tick }

const (
	chunkSize = 1 << 12
	maxErrors = 256 // failures of a client whose text is kept
)

// entryLog holds the entries of a client in chunks, so that growing copies nothing.
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

// roster numbers the answerers of a load. Number 0 stands for none of them.
type roster struct {
	mu    sync.Mutex
	index map[Answerer]uint16
	list  []Answerer
}

func newRoster() *roster {
	return &roster{index: map[Answerer]uint16{{}: 0}, list: []Answerer{{}}}
}

// number returns the number of a, a new number before the first answer. Beyond the last number the result is 0.
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

// has reports whether the version has answered.
func (r *roster) has(version string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.list[1:], func(a Answerer) bool { return a.Version == version })
}

// Report is the result of a load.
type Report struct {
	Begin, End time.Time
	Total      int
	Answered   int // complete answers, whatever their status
	Counts     map[Outcome]int
	ByVersion  map[string]int // complete answers
	ByPID      map[int]int    // complete answers
	Failed     []Record       // everything but OK, in the order of their ends

	Dials      int // connections opened
	Announced  int // kept connections whose last answer said Connection: close
	IdleClosed int // kept connections that the server closed while they were idle
	Stray      int // connections given up because of bytes that nobody had asked for

	prefix string
	logs   []*entryLog
	who    []Answerer
}

// record expands the entry number n of client c.
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

// Percentile returns the latency that p percent of the answers did not exceed, over the requests that started in the window
// from..to (zero times: all). Requests to the slow path are left out. Without answers the result is 0.
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

// LongestGap returns the longest time without the end of an answer in the window from..to (zero times: all), and when
// it began.
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

// FirstAnswer returns when the first answer of the version was complete, the zero time if there was none.
func (r *Report) FirstAnswer(version string) time.Time {
	first, _ := r.span(version)
	return first
}

// LastAnswer returns when the last answer of the version was complete, the zero time if there was none.
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
