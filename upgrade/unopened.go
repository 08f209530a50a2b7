package upgrade

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Sockets of the old process that the new one has not opened: a wrong default, a forgotten listener. They would refuse after the
// commit, so the candidate compares what has come along with what it has opened before Run. What the old process has opened while
// its Run ran is not expected. Who asks for the comparison is in sockets.go.

// comparison is what a candidate looks at.
type comparison struct {
	set      *listener.Set
	expected []wire.SocketName // of files at exec, by the welcome; what came in the control socket says it for itself
	nameless bool              // they are files at exec, and nobody has sent names
	meant    bool              // by the kind of the upgrade, whatever is missing
	mayClose []string
	kind     string
	log      *slog.Logger
}

// result is nil, or why the candidate must not take over.
func (c comparison) result() error {
	for _, n := range c.set.Fresh() {
		c.log.Info("upgrade: this version listens on a socket that the old process does not have", "network", n.Network, "address", n.Addr)
	}
	missing := c.set.Missing(c.expected)
	if c.nameless {
		missing = c.set.MissingFiles()
	}
	var closes, forgotten []string
	for _, m := range missing {
		if c.mayBeClosed(m) {
			closes = append(closes, m.String())
		} else {
			forgotten = append(forgotten, m.String())
		}
	}
	if len(closes) > 0 {
		c.log.Warn("upgrade: sockets of the old process end with the commit, because this version has not opened them",
			"sockets", strings.Join(closes, ", "), "for", c.kind)
	}
	if len(forgotten) > 0 {
		return refuseMissing(forgotten, c.set.FirstFailure())
	}
	return nil
}

func (c comparison) mayBeClosed(m listener.Missing) bool {
	return c.meant || slices.ContainsFunc(c.mayClose, func(addr string) bool { return addr == "*" || m.Is(addr) })
}

// refuseMissing names the sockets, and the error of Listen that the program has ignored, if there was one.
func refuseMissing(sockets []string, ignored error) error {
	const most = 5
	all := strings.Join(sockets[:min(len(sockets), most)], ", ")
	if n := len(sockets) - most; n > 0 {
		all += fmt.Sprintf(" and %d more", n)
	}
	err := errors.New("it has not opened " + all + ", where the old process listens, so clients would be refused: " +
		"open it by Listen before Run, or name it in Options.MayClose")
	if ignored != nil {
		err = fmt.Errorf("%w (%w)", err, ignored)
	}
	return err
}
