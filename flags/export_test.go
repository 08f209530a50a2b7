package flags

// Check looks at the files now, as the poller does.
func (f *Flags) Check() { f.check(false) }

// ErrPanic is the error of an evaluation that panicked.
var ErrPanic = errPanic

// MaxSize is the most that a file may hold.
const MaxSize = maxSize
