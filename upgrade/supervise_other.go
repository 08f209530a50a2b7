//go:build !linux

package upgrade

// runSupervisor does nothing: there are neither pidfds nor subreapers here.
func runSupervisor(superviseConfig) (code int, ok bool) { return 0, false }
