package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Sockets of the old process that the new one has not opened: a wrong default, a forgotten listener. They would refuse after the
// commit, so the candidate compares what has come along with what it has opened before Run. What the old process has opened while
// its Run ran is not expected.

// unopened is the comparison.
type unopened struct {
	expected []wire.SocketName // of files at exec, by the welcome; what came in the control socket says it for itself
	err      error             // why this candidate must not take over
}

// mostExpected is how many names the welcome has room for beside what else it holds. Further ones are not compared.
const mostExpected = 100

// expected are the names for the welcome, on the old process's side.
func (u *Upgrader) expected() []wire.SocketName {
	names := u.listeners.Early()
	return names[:min(len(names), mostExpected)]
}

// compareSockets makes the comparison. It is called by Run, before serve is.
func (u *Upgrader) compareSockets() {
	u.listeners.Begin()
	if u.parent == nil && !u.plainParent {
		return
	}
	for _, n := range u.listeners.Fresh() {
		u.log.Info("upgrade: this version listens on a socket that the old process does not have", "network", n.Network, "address", n.Addr)
	}
	missing := u.listeners.Missing(u.unopened.expected)
	if u.plainParent {
		missing = u.listeners.MissingFiles()
	}
	var closes, forgotten []string
	for _, m := range missing {
		if u.mayClose(m) {
			closes = append(closes, m.String())
		} else {
			forgotten = append(forgotten, m.String())
		}
	}
	if len(closes) > 0 {
		u.log.Warn("upgrade: sockets of the old process end with the commit, because this version has not opened them",
			"sockets", strings.Join(closes, ", "), "for", u.born.Kind)
	}
	if len(forgotten) > 0 {
		u.unopened.err = u.refuseMissing(forgotten)
	}
}

// mayClose reports whether a socket that is not opened is meant.
func (u *Upgrader) mayClose(m listener.Missing) bool {
	if u.only || u.born.Kind == modeRestart.String() || u.born.Kind == modeRollback.String() {
		return true
	}
	return slices.ContainsFunc(u.opts.MayClose, func(addr string) bool { return addr == "*" || m.Is(addr) })
}

func (u *Upgrader) refuseMissing(sockets []string) error {
	const most = 5
	all, why := strings.Join(sockets[:min(len(sockets), most)], ", "), ""
	if n := len(sockets) - most; n > 0 {
		all += fmt.Sprintf(" and %d more", n)
	}
	if err := u.listeners.FirstFailure(); err != nil {
		why = fmt.Sprintf(" (%v)", err)
	}
	return fmt.Errorf("it has not opened %s%s, where the old process listens, so clients would be refused: "+
		"open it by Listen before Run, or name it in Options.MayClose", all, why)
}
