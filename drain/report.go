package drain

import (
	"log/slog"
	"maps"
	"time"
)

// A Report says how a drain went.
type Report struct {
	// Handover tells whether another process served on.
	Handover bool `json:"handover"`
	// Began is when the drain did.
	Began time.Time `json:"began"`
	// Took is how long it lasted.
	Took time.Duration `json:"took"`
	// Phases is how long each phase of it was; those that it did not have are missing.
	Phases map[Phase]time.Duration `json:"phases"`
	// Left lists what went on when Grace had run out, with what ended it.
	Left []Entry `json:"left,omitempty"`
	// Err is what Serve returns; empty after a clean drain.
	Err string `json:"error,omitempty"`
}

// Report tells how the drain went; false before its end.
func (s *Server) Report() (r Report, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.report
	r.Phases = maps.Clone(r.Phases)
	return r, s.at() == drained
}

// enterStage raises the stage and notes how long the phase before took.
func (s *Server) enterStage(next stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.at() != serving {
		s.report.Phases[phases[s.at()]] += now.Sub(s.entered)
	}
	s.entered = now
	s.stage.Store(int32(next))
}

// finish ends the drain and says so.
func (s *Server) finish(err error) {
	s.enterStage(drained)
	s.mu.Lock()
	s.report.Handover, s.report.Began, s.report.Took = s.notice.handover, s.since, time.Since(s.since)
	if err != nil {
		s.report.Err = err.Error()
	}
	s.mu.Unlock()
	if s.report.Took >= progressTime { // its beginning was told
		s.opts.Logger.Info("drain: done", slog.Duration("took", s.report.Took), slog.Int("cut", len(s.report.Left)))
	}
}

// progress says what a drain that lasts waits for.
func (s *Server) progress() {
	st := s.Status()
	s.opts.Logger.Info("drain: waiting", slog.String("phase", string(st.Phase)),
		slog.Duration("for", time.Since(st.Since)), slog.Duration("left", time.Until(s.notice.until)),
		slog.Int("new", st.New), slog.Int("idle", st.Idle), slog.Int("active", st.Active),
		slog.Int("hijacked", st.Hijacked), slog.Int("closing", st.Closing), slog.Int("jobs", st.Jobs))
}

func (s *Server) log(left []Entry) {
	for _, e := range left[:min(len(left), listed)] {
		s.opts.Logger.Warn("drain: it did not end in time",
			slog.String("protocol", e.Protocol), slog.String("remote", e.Remote), slog.String("state", e.State),
			slog.Duration("for", time.Since(e.Since)), slog.String("name", e.Name), slog.String("action", e.Action))
	}
	if more := len(left) - listed; more > 0 {
		s.opts.Logger.Warn("drain: more did not end in time", slog.Int("more", more))
	}
}
