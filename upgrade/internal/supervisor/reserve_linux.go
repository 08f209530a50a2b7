package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve is descriptors that are held for nothing, so that there is room for what a generation sends when this process, or
// the machine, has no descriptor left: a message whose descriptors find no room is lost.
type reserve struct{ held []int }

// reserved is enough for the announcements of eight candidates.
const reserved = 32

// release makes room.
func (r *reserve) release() {
	for _, fd := range r.held {
		unix.Close(fd)
	}
	r.held = r.held[:0]
}

// refill takes the descriptors again, as many as there are.
func (r *reserve) refill() {
	for len(r.held) < reserved {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		r.held = append(r.held, fd)
	}
}
