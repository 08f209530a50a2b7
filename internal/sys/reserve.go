package sys

// Reserve holds spare descriptors. Closing them makes room when this process, or the machine, has no descriptor left. The
// caller has to ensure that no other part of the process uses the room after Release. The zero value is empty. Only one
// goroutine at a time may use a Reserve.
type Reserve struct{ held []int }

// Release closes all descriptors of the reserve.
func (r *Reserve) Release() { r.Shrink(0) }

// Shrink closes descriptors of the reserve until size are left.
func (r *Reserve) Shrink(size int) {
	for len(r.held) > max(size, 0) {
		CloseFD(r.held[len(r.held)-1])
		r.held = r.held[:len(r.held)-1]
	}
}

// Len returns the number of descriptors in the reserve.
func (r *Reserve) Len() int { return len(r.held) }

// Room reports whether this process could open n more descriptors now.
func Room(n int) bool {
	var r Reserve
	r.Fill(n)
	defer r.Release()
	return r.Len() == n
}
