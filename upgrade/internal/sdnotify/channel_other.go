//go:build !linux

package sdnotify

func isChannel(int) bool { return false }
