package netconn

import (
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
)

// A Source says how the kernel copies from a reader to a TCP connection.
type Source int

// The sources that package net knows.
const (
	Unknown Source = iota // by a buffer
	File                  // sendfile
	Socket                // splice, on Linux
)

// SourceOf returns how the kernel copies from r. Only the types of package net and of os count, as in ReadFrom of a
// *net.TCPConn: the Read of another type may give bytes that its descriptor does not have.
func SourceOf(r io.Reader) Source {
	switch r := r.(type) {
	case *net.TCPConn:
		return Socket
	case *net.UnixConn:
		if stream(r) {
			return Socket
		}
		return Unknown
	case *os.File:
		return File
	}
	// WriteTo of a connection or of a file passes itself on in a type without WriteTo.
	if _, ok := r.(syscall.Conn); !ok {
		return Unknown
	}
	switch t := reflect.TypeOf(r); {
	case t.Kind() != reflect.Struct:
		return Unknown
	case t.PkgPath() == "net":
		return Socket
	case t.PkgPath() == "os":
		return File
	}
	return Unknown
}

// Regular reports whether a reader of the kind File is a regular file: others, a pipe for instance, may have their next byte
// at any time.
func Regular(r io.Reader) bool {
	f, ok := r.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// stream reports whether a unix socket has no message boundaries.
func stream(c *net.UnixConn) bool {
	a := c.LocalAddr()
	return a != nil && a.Network() == "unix"
}
