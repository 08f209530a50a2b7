package subprocess

import "time"

// SetSealed sets what is called after each check of a program.
func (o *Options) SetSealed(fn func()) { o.sealed = fn }

// SetGuard sets how long a process has to live before its end is the first one in a row.
func (o *Options) SetGuard(d time.Duration) { o.guard = d }
