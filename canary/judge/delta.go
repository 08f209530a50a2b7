package judge

// A delta has less than 16 KiB: at most so many weights, so many units that are new, and so many that were sent before.
const (
	deltaRows  = 32
	deltaNew   = 300
	deltaAgain = 100
)

// A sender knows what the deltas of this process have had.
type sender struct {
	log  []entry // the units that this process has counted, in the order of counting
	sent int     // the entries of log that were in a delta
	old  int     // the next entry that is sent again
	row  int     // the next weight that is sent, if there are more than one delta has room for
}

// units returns the units for a delta.
func (s *sender) units() (all []entry) {
	for range min(s.sent, deltaAgain) {
		all = append(all, s.log[s.old%s.sent])
		s.old = (s.old + 1) % s.sent
	}
	next := min(len(s.log), s.sent+deltaNew)
	all = append(all, s.log[s.sent:next]...)
	s.sent = next
	return all
}
