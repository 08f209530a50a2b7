package upgrade

// Candidate is the new process while it is being tried, as Options.Bake sees it.
type Candidate struct {
	pid        int
	generation int
	version    string
}

// PID returns the candidate's process id.
func (c *Candidate) PID() int { return c.pid }

// Generation returns the number that the candidate has if it is committed.
func (c *Candidate) Generation() int { return c.generation }

// Version returns the version that the candidate says it is; empty for one that does not use this library.
func (c *Candidate) Version() string { return c.version }
