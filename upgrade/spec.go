package upgrade

// inheritedFile is an open file that a started process gets, under its name in tableflip: kind, network, address.
type inheritedFile struct {
	name [3]string
	fd   uintptr
}
