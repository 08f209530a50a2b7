package subprocess

import "errors"

var (
	// ErrNoHost is returned by Serve in a process that Start has not started.
	ErrNoHost = errors.New("subprocess: no host has started this process: Serve is for a program that is started by Start")
	// ErrHostEnded is returned by Serve when the host has ended without stopping the process.
	ErrHostEnded = errors.New("subprocess: the host has ended")
	// ErrClosed is returned by methods of a Handler after Close.
	ErrClosed = errors.New("subprocess: the handler is closed")
	// ErrChecksum is returned if the program has another checksum than Options.Checksum.
	ErrChecksum = errors.New("subprocess: the program has another checksum")
	// ErrNoSealedCopy is returned if this system does not execute files in memory, which Options.Checksum needs.
	ErrNoSealedCopy = errors.New("subprocess: this system does not execute files in memory (is the sysctl vm.memfd_noexec 2?)")
)
