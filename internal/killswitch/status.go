package killswitch

import "time"

// Status is what an operator wants to know of a Switch.
type Status struct {
	Name           string
	State          string // the Word
	Reason         string // of the kill or the latch that is in force, or else of the last revival; also the three fields below
	At             time.Time
	Host           string
	PID            int
	File           string
	FileError      string
	BroadcastError string
}

// Status returns the state, and the errors of the last write and of the last broadcast.
func (s *Switch) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	word, last := s.current()
	st := Status{
		Name: s.opts.Name, State: word.String(), Reason: last.Reason, Host: last.Host, PID: last.PID,
		File: s.opts.File, FileError: text(s.fileErr), BroadcastError: text(s.sentErr),
	}
	if last.At != 0 {
		st.At = time.UnixMilli(last.At)
	}
	return st
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
