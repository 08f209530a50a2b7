// Package guard calls functions of the program that uses the library: a panic in such a function must not end the process.
package guard

import "fmt"

// Call calls fn, and returns the error of fn. If fn panics, Call returns an error with the value of the panic. If fn calls
// runtime.Goexit, the goroutine of the caller ends.
func Call(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}
