package follow

// defaultMax is the default of File.MaxSize, in bytes.
const defaultMax = 1 << 20

// A File is one file that is followed. A File must not be used by several goroutines at once: the caller holds its lock.
type File struct {
	// Path is the path of the file. It is resolved at each look, so it should be absolute if the program may change its
	// directory.
	Path string
	// MaxSize is the greatest size of the file, in bytes. Default: 1 MiB.
	MaxSize int64

	last    sight
	writing bool // the last look has found that the file was being written
}

// Look returns the content of the file if the content may be new. If nothing has changed since the last Look with a new content,
// fresh is false and content is nil. With always, Look reads the content whatever the stamp says. The caller may keep the
// content, and may change it.
//
// The error is an [*Error]. If the file changed while it was read, errors.Is may report [ErrWriting] for the error. The first
// good Look after an error returns the content as new, even if the content is the same as before the error.
func (f *File) Look(always bool) (content []byte, fresh bool, err error) {
	contents, fresh, err := Set{f}.Look(always)
	if !fresh {
		return nil, false, err
	}
	return contents[0], true, nil
}
