// Package guard calls functions of the program that uses the library, where a panic must not end the process that
// serves.
package guard

import "fmt"

// Call calls fn and returns its error, or its panic as an error. A fn that ends its goroutine (runtime.Goexit) ends
// that of the caller.
func Call(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}
