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

// The search for sockets of the old process that the new process has not opened, for example because of a wrong default or a
// forgotten listener. After the commit, clients of such a socket would be refused. So the candidate compares the sockets that
// it has received with the sockets that it has opened before Run. A socket that the old process itself has opened only during
// Run may be missing. compareSockets (sockets.go) makes the comparison.

// comparison compares, in a candidate, the received sockets with the opened sockets.
type comparison struct {
	set      *listener.Set
	expected []wire.SocketName // the sockets that came as files at exec; not used if the sockets came on the control socket
	nameless bool              // the old process uses tableflip only, so it has sent no list of expected sockets
	meant    bool              // in this kind of upgrade every socket may stay unopened
	mayClose []string          // Options.MayClose
	kind     string            // the kind of the upgrade, for the log
	log      *slog.Logger
}

// result returns nil if the candidate may take over. Otherwise it returns an error with the reason.
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

// refuseMissing returns an error that names the missing sockets. If the program has ignored an error of Listen, ignored is that
// error; otherwise ignored is nil.
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
