package testutil

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Journal records which requests a server has begun to execute. Several processes may use the same file: each line is
// appended by a single write. A process that dies has recorded all requests that it had begun.
type Journal struct {
	file  *os.File
	tail  string    // the end of each line: " pid\n"
	lines sync.Pool // buffers for Begin
}

// OpenJournal opens or creates the journal at path.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{file: f, tail: fmt.Sprintf(" %d\n", os.Getpid())}
	j.lines.New = func() any { return new([]byte) }
	return j, nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// Begin records that this process begins to execute a request.
func (j *Journal) Begin(id string) error {
	line := j.lines.Get().(*[]byte)
	defer j.lines.Put(line)
	*line = append(append((*line)[:0], id...), j.tail...)
	_, err := j.file.Write(*line)
	return err
}

// Handler returns a handler that records each request with an X-Request-Id, and then calls next. If the request cannot be
// recorded, the answer is 500 and next is not called, so no request is executed without a record.
func (j *Journal) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("X-Request-Id"); id != "" {
			if err := j.Begin(id); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// execution is the journal's record of a request.
type execution struct {
	times      uint8 // how often the request was executed, at most 250
	pid, again int32 // the processes of the first and of the last execution
}

// readJournal returns the executions of each request of the report, by client and number. unknown is the number of lines that
// have the report's prefix, but belong to no request of the report.
func readJournal(path string, r *Report) (runs [][]execution, unknown int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for _, l := range r.logs {
		runs = append(runs, make([]execution, l.len()))
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		own, known := note(runs, r.prefix, lines.Bytes())
		if own && !known {
			unknown++
		}
	}
	return runs, unknown, lines.Err()
}

// note adds a line of the journal to runs. own reports whether the line has the prefix of the load, and known whether the
// load has such a request.
func note(runs [][]execution, prefix string, line []byte) (own, known bool) {
	id, pid, _ := bytes.Cut(line, []byte{' '})
	rest, ok := strings.CutPrefix(string(id), prefix+"-")
	if !ok {
		return false, false
	}
	first, second, _ := strings.Cut(rest, "-")
	client, err1 := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil || client < 0 || client >= len(runs) || n < 0 || n >= len(runs[client]) {
		return true, false
	}
	by, _ := number(pid)
	e := &runs[client][n]
	if e.times == 0 {
		e.pid = int32(by)
	}
	e.again = int32(by)
	e.times = min(e.times+1, 250)
	return true, true
}
