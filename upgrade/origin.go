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
	oldTableflip                // the old process knows tableflip only
	oldDead                     // the old process has died before its welcome
)

// origin is what this process was told about where it comes from. New fills it in, and nothing changes it afterwards.
type origin struct {
	generation int
	old        oldKind
	link       *wire.Link        // to the old process; nil unless the kind is oldMidair
	elder      *elder            // the old process, when it has handed over
	limit      time.Duration     // how long the old process waits for prepared
	welcome    time.Time         // when the answer to hello came
	paths      []wire.SocketName // of the unix sockets of the old process
	expects    []wire.SocketName // of the sockets that the old process passes as files at exec
	inherited  []string          // names of the sockets that a service manager keeps for the old process
	starter    string            // the name of the program that has started this process; empty: an older generation, or unknown
	born       Outcome           // of the upgrade that started this process, as far as the old one has told
	only       bool              // no process serves: this one has to, whatever its checks find
	detached   bool              // the end of the terminal is nothing to the service
	systemd    bool              // has started the service, and is told of each main process by the one before
}

// replaces reports whether the old process decides when this one serves.
func (o *origin) replaces() bool { return o.old == oldMidair || o.old == oldTableflip }
