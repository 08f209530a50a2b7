//go:build !linux

package process

import "os"

// reap waits for the end of the process and reaps it at once. Kill learns of that a moment later.
func (c *Child) reap() (*os.ProcessState, error) {
	state, err := c.proc.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	return state, err
}
