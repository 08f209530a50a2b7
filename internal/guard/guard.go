// Package guard calls functions of the program that uses the library, where a panic must not end the process that
// serves.
package guard

import "fmt"

// Call calls fn. The error is the error of fn, or the panic of fn as an error. If fn calls runtime.Goexit, the goroutine of
// the caller ends.
func Call(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}
