package flags

// Check looks at the file now, as the poller does.
func (f *Flags) Check() { f.check() }

// Murmur hashes the parts as one text.
func Murmur(parts ...string) uint32 {
	m := murmur{}
	for _, p := range parts {
		m = m.add(p)
	}
	return m.sum()
}

// Compile tells whether the content of a file is good.
func Compile(content []byte) error {
	if _, bad := compile(content, "file", nil); bad != nil {
		return bad
	}
	return nil
}

// ErrPanic is the error of an evaluation that panicked.
var ErrPanic = errPanic

// MaxSize is the most that a file may hold.
const MaxSize = maxSize

// Settle is how old a change must be before size and time are believed.
const Settle = settle
