package sys

// Reserve is descriptors that are held for nothing, to make room when this process, or the machine, has none left. After a
// release anything else in the process may take the room at once: the caller has to hold others back. The zero value is empty.
// A Reserve is for one goroutine at a time.
type Reserve struct{ held []int }

// Release makes room.
func (r *Reserve) Release() { r.Shrink(0) }

// Shrink makes room until size descriptors are left.
func (r *Reserve) Shrink(size int) {
	for len(r.held) > max(size, 0) {
		CloseFD(r.held[len(r.held)-1])
		r.held = r.held[:len(r.held)-1]
	}
}

// Len is how many descriptors are held.
func (r *Reserve) Len() int { return len(r.held) }

// Room reports whether n descriptors more could be had now.
func Room(n int) bool {
	var r Reserve
	r.Fill(n)
	defer r.Release()
	return r.Len() == n
}
