package killswitch

// A Switch is the state in the process. The zero value is open, has no name, no file and no broadcast.
//
// With a missing file a Switch is open at Start. With a damaged or unreadable file the Switch is killed in this process only, and
// the reason names the file. A revival in another process, which comes by Merge, does not end this kill.
type Switch struct{ replica[State] }

// Word returns the state.
func (s *Switch) Word() Word { return Word(s.word.Load()) }

// Kill stops until a Revive in a process to which the kill is known.
func (s *Switch) Kill(reason string) error {
	s.change(here, func(st State) State { return st.kill(s.me, now(), clean(reason)) })
	return s.Publish()
}

// Latch is the same for a judge: a weaker word, which a kill hides.
func (s *Switch) Latch(reason string) error {
	s.LatchNow(reason)
	return s.Publish()
}

// LatchNow latches in memory only, for a goroutine that must not wait. LatchNow reports whether Publish is to be called.
func (s *Switch) LatchNow(reason string) bool {
	return s.change(here, func(st State) State { return st.latch(s.me, now(), clean(reason)) })
}

// Revive clears all known kills and latches. If the file has a kill that was unknown to the process, the
// switch is killed again when Revive returns, and Revive returns an error.
func (s *Switch) Revive(reason string) error {
	s.change(here, func(st State) State {
		return st.revive(event{At: now(), Reason: clean(reason), Host: s.me.Host, PID: s.me.PID})
	})
	if err := s.Publish(); err != nil || s.Word() == Open {
		return err
	}
	return s.errorf("it is %s again, because a kill or latch was unknown to this process (%s): revive again to clear it too",
		s.Word(), s.Status().Reason)
}
