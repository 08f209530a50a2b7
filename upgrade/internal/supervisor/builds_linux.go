package supervisor

import (
	"log/slog"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// builds are the builds that the supervisor can start.
type builds struct {
	log      *slog.Logger
	last     *process.Build // of the main generation, as committed last
	before   *process.Build // the build that a crash loop goes back to; nil: not known
	fallback bool           // before is to be started in place of last
	newest   *proc          // the process with which last became another build
}

func (b *builds) close() {
	b.last.Close()
	b.before.Close()
}

// next returns the build that is to be started, and why.
func (b *builds) next() (build *process.Build, kind string) {
	if b.fallback {
		return b.before, KindFallback
	}
	return b.last, KindCrash
}

// rollback returns the build that Rollback of the next process would go back to; nil if there is none.
func (b *builds) rollback() *process.Build {
	if b.fallback {
		return nil
	}
	return b.before
}

// remember keeps the build of a new main generation, for the next crash, and reports whether the build is new.
func (b *builds) remember(p *proc) (isNew bool) {
	build, back := p.build, b.fallback
	b.fallback = false
	if p.build = nil; build == nil { // the process was started from a remembered build, or has taken the service back
		if b.before != nil && (back || b.newest != nil && b.newest.parent == p) {
			b.last.Close()
			b.last, b.before = b.before, nil
		}
		return false
	}
	build.Version = p.version
	if build.Same(b.last) {
		b.last.Close()
	} else {
		isNew = true
		b.before.Close()
		b.before, b.newest = b.last, p
	}
	b.last = build
	return isNew
}

// change makes the build before the next to be started. If the build before does not serve either, the build committed last is
// tried again, and so on: a resource that both need may be away. The first build to serve is the committed build then.
func (b *builds) change(guard time.Duration) {
	if b.fallback {
		b.fallback = false
		b.log.Error("upgrade: supervisor: the build before does not serve either: back to the one that was committed last",
			"version", b.before.Version, "back to", b.last.Version)
		return
	}
	b.fallback = true
	b.log.Error("upgrade: supervisor: the build has crashed again within its guard time: back to the one before it",
		"version", b.last.Version, "back to", b.before.Version, "Guard", guard)
}
