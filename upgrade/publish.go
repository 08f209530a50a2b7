package upgrade

import (
	"fmt"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Messages of the application from the candidate to the old process: what a judge there wants to know.

// publishWait is how long Publish waits while others send.
const publishWait = time.Millisecond

// messageLimit is the size limit of a message, in bytes. Base64 makes a message a third longer in its frame.
const messageLimit = 16 << 10

// Publish sends a message from a candidate to the old process, for a subscriber of the name. Publish waits for a millisecond at
// most. ErrNotReady: this process is no candidate. Another error: the message has more than 16 KiB, or was dropped because the old
// process does not keep up.
func (u *Upgrader) Publish(name string, data []byte) error {
	if len(data) > messageLimit {
		return fmt.Errorf("upgrade: publish %q: %d bytes are more than %d", name, len(data), messageLimit)
	}
	l := u.publisher.Load()
	if l == nil {
		return fmt.Errorf("%w: this process is no candidate", ErrNotReady)
	}
	if err := l.TrySend(wire.KindMessage, wire.MessageBody{Name: name, Data: data}, nil, publishWait); err != nil {
		return fmt.Errorf("upgrade: publish %q: %w", name, unsupported(err))
	}
	return nil
}
