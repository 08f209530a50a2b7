package upgrade

import (
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// oldKind is the kind of the process that this process is to replace.
type oldKind int

const (
	oldNone      oldKind = iota // this process replaces no other process
	oldMidair                   // the old process speaks the control protocol
	oldTableflip                // the old process uses tableflip only
	oldDead                     // the old process has died before it has sent the message welcome
)

// origin describes how this process was started, and by which process. New fills it in; its fields do not change after New.
type origin struct {
	generation int
	old        oldKind
	link       *wire.Link        // the control socket to the old process; nil unless old is oldMidair
	elder      *elder            // the old process; after the commit it joins the list of draining generations
	limit      time.Duration     // how long the old process waits until this process is prepared
	welcome    time.Time         // when the message welcome came
	paths      []wire.SocketName // the unix sockets of the old process
	expects    []wire.SocketName // the sockets that came as files at exec and that this process has to open
	inherited  []string          // the names of sockets that the service manager stores for the old process
	starter    string            // the program that has started this process; empty if it is not known, or if it is an older generation
	born       Outcome           // the upgrade that has started this process; only the values known at the start are set
	only       bool              // no other process serves, so this process has to serve even if its checks fail
	detached   bool              // the first process was started with nohup: the end of its terminal does not stop the service
	systemd    bool              // systemd has started the service, and each old process names the next main process to systemd
}

// replaces reports whether an old process decides when this process begins to serve.
func (o *origin) replaces() bool { return o.old == oldMidair || o.old == oldTableflip }
