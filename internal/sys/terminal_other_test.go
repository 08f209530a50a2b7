//go:build !linux

package sys_test

func playTerminal() {}
