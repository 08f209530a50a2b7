//go:build !linux

package process

func oomProblem() error { return nil }

func restoreOOM() (bool, error) { return false, nil }

func killedFirst() []int { return nil }
