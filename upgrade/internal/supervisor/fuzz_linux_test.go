package supervisor

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
	"golang.org/x/sys/unix"
)

// A generation may send any message on its channel, with any descriptors: nothing panics, no descriptor stays open, and a
// process is followed only after a complete announcement. The sender may be the main generation, a draining generation, or a
// candidate.
func FuzzChannel(f *testing.F) {
	for _, text := range []string{
		sdnotify.WordCandidate, sdnotify.WordReady + "\n" + sdnotify.WordPID + "1\n" + sdnotify.WordGeneration + "9",
		sdnotify.WordStore + "\n" + sdnotify.WordName + "x", sdnotify.WordRemove + "\n" + sdnotify.WordName + "x",
		sdnotify.WordExtend + "99999999999999999999", sdnotify.WordHandedOver, sdnotify.WordOrphan, sdnotify.WordReceived, sdnotify.WordStopping, sdnotify.WordAlive, "\n=\n\x00",
	} {
		for who := range byte(3) {
			f.Add(who, []byte(text), uint8(4))
			f.Add(who, []byte(text+"\n\n"+sdnotify.WordCandidate), uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, who byte, said []byte, nfiles uint8) {
		seen := wiretest.NewWitness(t)
		s := idle(t)
		g, channel := s.self(t)
		g.number, g.led, g.state = 5, time.Now(), candidate
		switch who % 3 {
		case 0:
			s.leads(g)
			s.phase = running
		case 1:
			g.state = draining
		}
		for text := range strings.SplitSeq(string(said), "\n\n") {
			if len(text) > 0 { // an empty message is the end of a channel
				fds := numbers(seen.Lend(int(nfiles % 6)))
				// Sendmsg fails if the channel is full.
				_ = unix.Sendmsg(int(sys.FD(channel)), []byte(text), unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT)
			}
		}
		wiretest.InTime(t, s.receive)
		if len(s.procs.all) != 1 || s.procs.all[os.Getpid()] != g {
			t.Errorf("%d generations", len(s.procs.all))
		}
		s.store.close()
		seen.MustBeGone(t)
	})
}
