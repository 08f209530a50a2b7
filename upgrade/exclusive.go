package upgrade

import (
	"context"
	"fmt"
)

// Exclusive makes Run hold a resource while this generation is the main one. The first process acquires it before it
// accepts. In an upgrade the old process stops accepting and releases it right before the commit, and the new one
// acquires it before it accepts: new connections wait in the kernel's queue that long. If the commit fails, the old one
// acquires it again, and serves on without it, loudly, if it cannot within Options.Timeout. Requests that the old process
// has begun, or that come on its open connections, go on after the Release: the program has to let Release wait for
// them, or them do without. A process that has nobody to fall back to and cannot acquire ends Run with the error. The
// last thing that Run does is to release what is held.
//
// Several resources are acquired in the order of the calls and released in the reverse. To be called before Run.
func (u *Upgrader) Exclusive(name string, r Resource) {
	u.resources.mu.Lock()
	defer u.resources.mu.Unlock()
	u.resources.all = append(u.resources.all, &resource{Resource: r, name: name})
}

// acquire is the one of a process that nobody stands behind. Its outcome is heard in the loop.
func (r *runner) acquire() {
	ctx, cancel := context.WithTimeout(context.Background(), r.u.opts.Timeout)
	result := make(chan error, 1)
	r.acquired, r.giveUp = result, cancel
	go func() { result <- r.u.resources.acquire(ctx) }() // the loop waits for it
}

// hasAcquired makes this process the service, or ends it: it could not serve.
func (r *runner) hasAcquired(err error) {
	r.acquired = nil
	r.giveUp()
	switch {
	case r.role != roleCandidate: // told to stop meanwhile; finish releases
	case err != nil:
		r.err, r.plain = fmt.Errorf("upgrade: %w", err), true
		r.u.log.Error("upgrade: cannot serve without it", "err", err)
		r.leave("stopping", &ending{reason: err.Error()})
	default:
		r.becomeMain()
		r.hurryElders()
		r.upgradeAgain()
	}
}

// releaseResources is the last thing that a generation does with them.
func (u *Upgrader) releaseResources() {
	ctx, cancel := context.WithTimeout(context.Background(), u.opts.Timeout)
	defer cancel()
	if err := u.resources.release(ctx); err != nil {
		u.log.Error("upgrade: cannot release", "err", err)
	}
}
