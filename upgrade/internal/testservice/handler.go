//go:build linux

package testservice

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// handler serves the users of the service, each answer with generation, version and pid.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.FormValue("n"), b)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("d"))
		time.Sleep(max(d, 50*time.Millisecond)) // this is the work
	})
	mux.HandleFunc("/add", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, s.value.add()) })
	mux.HandleFunc("/blob", func(w http.ResponseWriter, r *http.Request) { // changes the blob if the pid is that of this process
		if r.FormValue("pid") == strconv.Itoa(os.Getpid()) {
			s.blob.change()
		}
		fmt.Fprint(w, s.blob.first())
	})
	mux.HandleFunc("/helper", func(http.ResponseWriter, *http.Request) { startHelper(plan.HelperOfHandler) })
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		if !s.lock.held() {
			http.Error(w, "it is not held here", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, os.Getpid())
	})
	mux.HandleFunc("/assigned", func(w http.ResponseWriter, r *http.Request) {
		var a plan.Assignment
		a.Unit, a.Weight, a.OK = upgrade.Assigned(r.Context().Value(connKey{}).(net.Conn))
		json.NewEncoder(w).Encode(a)
	})
	st := s.up.Status()
	fails := s.failing()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Generation", strconv.Itoa(st.Generation))
		h.Set("X-Version", "g"+strconv.Itoa(st.Generation))
		h.Set("X-Pid", strconv.Itoa(st.PID))
		if !fails(w) {
			mux.ServeHTTP(w, r)
		}
	})
}

// failing returns how a bad generation answers when the file "bad" is there. The function tells the judge of each failure.
func (s *service) failing() func(http.ResponseWriter) (answered bool) {
	if s.bad.request == nil {
		return func(http.ResponseWriter) bool { return false }
	}
	var n atomic.Int64
	return func(w http.ResponseWriter) bool {
		if !exists(filepath.Join(s.dir, "bad")) || n.Add(1)%s.bad.every != 0 {
			return false
		}
		_ = s.up.Publish("figures", nil) // the judge misses a failure
		http.Error(w, "this release is bad", s.bad.request(s))
		return true
	}
}
