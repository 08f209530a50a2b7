package upgrade

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// A generation may receive any message with any descriptors from the supervisor. It does not panic, and no descriptor is left
// open at its end. Such a message can change the state of an orphan only.
func FuzzTold(f *testing.F) {
	for _, text := range []string{
		sdnotify.WordConfirmed, sdnotify.WordSuccessor, sdnotify.WordOrphan + "\n" + sdnotify.WordPID + "1\n" + sdnotify.WordVersion + "v",
		sdnotify.WordBroadcast + "\n" + sdnotify.WordGeneration + "3",
		sdnotify.WordOrphan + "\n" + sdnotify.WordPID + "99999999999999999999", "\n=\n\x00", sdnotify.WordConfirmed + "\n" + sdnotify.WordSuccessor,
	} {
		for who := range byte(4) {
			f.Add(who, text, uint8(1))
			f.Add(who, text, uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, who byte, said string, nfiles uint8) {
		seen := wiretest.NewWitness(t)
		u, err := NewUnsupported(Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		u.origin.old, u.origin.link = oldMidair, wire.NewLink(&deadTransport{wiretest.Transport{}})
		was := []genState{genOrphan, genAlone, genServing, genLeaving}[who%4]
		g := newGeneration(&u.parts)
		g.state, g.result, g.endServe, g.fromOld = was, checksPassed, func(error) {}, nil
		var files []*os.File
		for range nfiles % 4 {
			files = append(files, seen.File(t))
		}
		wiretest.InTime(t, func() {
			g.receiveSupervisor(sdnotify.Message{Lines: strings.Split(said, "\n"), Files: files}, true)
			endSending(g)
			u.history.elders.release()
			u.origin.link.Close()
			g.next.drop()
		})
		if was != genOrphan && g.state != was {
			t.Errorf("state %v, was %v", g.state, was)
		}
		seen.MustBeGone(t)
	})
}
