package upgrade

import (
	"context"
)

// Exclusive makes Run hold a resource while this process is the main generation. The first process acquires the resource
// before accepting. In an upgrade the old process stops accepting and releases the resource right before the commit, and
// the new process acquires it before accepting: new connections wait in the kernel's queue meanwhile. If the commit fails,
// the old process acquires the resource again. If Acquire fails until Options.Timeout, the old process serves on without,
// and logs an error. Requests that the old process has begun, or that come on its open connections, go on after the
// Release: either Release waits for such requests, or they work without the resource. A process without another one to
// fall back to ends Run with the error of Acquire. At its end Run releases the held resources.
//
// Several resources are acquired in the order of the calls and released in the reverse. To be called before Run.
func (u *Upgrader) Exclusive(name string, r Resource) {
	u.resources.mu.Lock()
	defer u.resources.mu.Unlock()
	u.resources.all = append(u.resources.all, &resource{Resource: r, name: name})
}

// releaseResources releases the held resources at the end of Run.
func (u *Upgrader) releaseResources() {
	ctx, cancel := context.WithTimeout(context.Background(), u.opts.Timeout)
	defer cancel()
	if err := u.resources.release(ctx); err != nil {
		u.log.Error("upgrade: cannot release", "err", err)
	}
}
