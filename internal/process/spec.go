package process

// Inherited is an open file that a started process gets, under its name in tableflip: kind, network, address.
type Inherited struct {
	Name [3]string
	FD   uintptr
}
