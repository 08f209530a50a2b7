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
	Unknown Source = iota // the kernel does not copy: the copy goes through a buffer
	File                  // the kernel copies by sendfile
	Socket                // on Linux, the kernel copies by splice
)

// SourceOf returns how the kernel copies from r. For all types but those of the packages net and os it returns Unknown: the
// Read of another type may return bytes that do not come from its descriptor. The ReadFrom of a *net.TCPConn decides in the
// same way.
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
	// WriteTo of a *net.TCPConn or *os.File may call ReadFrom, and wraps the connection or the file in a struct for that. The
	// struct has no method WriteTo. The packages net and os do not export the types of these structs.
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

// Regular reports whether r, whose Source is File, is a regular file. A Read of another file, such as a pipe, may have to wait
// for the next byte.
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
