package process

// Marked returns the program as if its file had the mark.
func Marked(p Program) Program {
	p.marked = true
	return p
}
