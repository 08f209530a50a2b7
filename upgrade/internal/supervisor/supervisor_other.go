//go:build !linux

package supervisor

// Run does nothing: there are neither pidfds nor subreapers here.
func Run(Config) (code int, ok bool) { return 0, false }
