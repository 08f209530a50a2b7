package listener

import (
	"container/list"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// index has the open sockets of a process, in the order in which they were opened. It finds a socket by its name or by its spot
// without a search through all sockets. The caller holds the lock of the sockets.
type index struct {
	order  list.List             // the elements are of type *Socket
	named  map[address][]*Socket // a name may have several sockets if all but the last are closed, or if the path was removed
	lowest map[address]int       // the lowest number that may be free for an address, see name; 1 if there is no entry
	bound  spots[*Socket]        // nil before the first call of near
}

// address is what the program has opened, or the name of a socket.
type address struct{ network, addr string }

func (r *Socket) address() address { return address{r.Network, r.Addr} }

// add adds a socket as the last one.
func (x *index) add(r *Socket) {
	if x.named == nil {
		x.named, x.lowest = map[address][]*Socket{}, map[address]int{}
	}
	r.place = x.order.PushBack(r)
	x.named[r.address()] = append(x.named[r.address()], r)
	x.bound.add(r)
}

// remove removes a socket, and reports whether it was there.
func (x *index) remove(r *Socket) bool {
	if r.place == nil {
		return false
	}
	x.order.Remove(r.place)
	r.place = nil
	if left := slices.DeleteFunc(x.named[r.address()], func(o *Socket) bool { return o == r }); len(left) > 0 {
		x.named[r.address()] = left
	} else {
		delete(x.named, r.address())
	}
	x.bound.remove(r)
	return true
}

// removeAll removes all sockets, and returns them.
func (x *index) removeAll() []*Socket {
	all := slices.Collect(x.each())
	for _, r := range all {
		x.remove(r)
	}
	return all
}

// near returns the sockets whose spot may overlap with the given spot, see the method near of spots.
func (x *index) near(want spot) []*Socket {
	if x.bound == nil {
		x.bound = spotsOf(x.each())
	}
	return x.bound.near(want)
}

// each returns the sockets. The caller must not remove sockets meanwhile.
func (x *index) each() iter.Seq[*Socket] {
	return func(yield func(*Socket) bool) {
		for e := x.order.Front(); e != nil && yield(e.Value.(*Socket)); e = e.Next() {
		}
	}
}

// freeName returns the first of the names addr, addr#2, addr#3 and so on that no socket has, except sockets that the program
// has closed.
func (x *index) freeName(network, addr string) string {
	from := address{network, addr}
	n := max(x.lowest[from], 1)
	for slices.ContainsFunc(x.named[address{network, numbered(addr, n)}], func(r *Socket) bool { return !r.Closed() }) {
		n++
	}
	if n > 1 {
		x.lowest[from] = n
	}
	return numbered(addr, n)
}

// freed notes that the program has closed a socket, so freeName may return the name of the socket again.
func (x *index) freed(r *Socket) {
	addr, n := r.Addr, 1
	if i := strings.LastIndexByte(addr, '#'); i >= 0 {
		if number, err := strconv.Atoi(addr[i+1:]); err == nil {
			addr, n = addr[:i], number
		}
	}
	if from := (address{r.Network, addr}); n == 1 {
		delete(x.lowest, from)
	} else if n < x.lowest[from] {
		x.lowest[from] = n
	}
}

// numbered returns the name of the socket number n with an address.
func numbered(addr string, n int) string {
	if n == 1 {
		return addr
	}
	return addr + "#" + strconv.Itoa(n)
}
