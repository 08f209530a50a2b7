//go:build !unix

package process_test

func playChild() {}
