package supervisor

import (
	"log/slog"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// builds are the builds that the supervisor can start.
type builds struct {
	log      *slog.Logger
	last     *process.Build // the build that was committed last; before the first commit: the supervisor's own build
	before   *process.Build // the build that was committed before last, for a crash loop and for Rollback; nil: not known
	fallback bool           // the build in before is to be started, not the build in last
	newest   *proc          // the process whose commit has filled the field before; nil: there is none
}

func (b *builds) close() {
	b.last.Close()
	b.before.Close()
}

// next returns the build that is to be started, and the kind of the Report.
func (b *builds) next() (build *process.Build, kind string) {
	if b.fallback {
		return b.before, KindFallback
	}
	return b.last, KindCrash
}

// rollback returns the build to which a Rollback in the next process would go back; nil if there is none.
func (b *builds) rollback() *process.Build {
	if b.fallback {
		return nil
	}
	return b.before
}

// remember keeps the build of a new main generation, for the start after the next crash, and reports whether the build is new.
func (b *builds) remember(p *proc) (isNew bool) {
	build, back := p.build, b.fallback
	b.fallback = false
	if p.build = nil; build == nil { // the supervisor has started this process, or this process was the main generation before
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

// change chooses the other of the two builds for the next start. The first call chooses the build in before, the second call
// the build in last again, and so on. The reason is that both builds may need a resource that is missing for a while. The build
// that serves first becomes the committed build.
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
