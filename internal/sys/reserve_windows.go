package sys

// Fill does nothing on Windows.
func (r *Reserve) Fill(int) {}

// FileLimit returns 0: the limit is unknown on Windows.
func FileLimit() int { return 0 }
