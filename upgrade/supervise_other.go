//go:build !linux

package upgrade

// supervise does nothing: there are neither pidfds nor subreapers here.
func supervise(Options) (int, bool) { return 0, false }
