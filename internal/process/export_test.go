package process

// Marked is the program as one that takes its sockets from the control socket.
func Marked(p Program) Program {
	p.marked = true
	return p
}
