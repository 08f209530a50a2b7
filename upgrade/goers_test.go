//go:build unix

package upgrade

import (
	"os"
	"testing"
)

// A process that ends while this one is no main generation yet is not forgotten: it may remove a path when this one serves.
func TestEndingProcessIsWatchedBeforeThisOneServes(t *testing.T) {
	u, err := NewUnsupported(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var s goers
	s.add(os.Getpid()) // has not ended
	for _, main := range []bool{false, false, true, false} {
		if s.tick == nil {
			t.Fatal("the process is forgotten")
		}
		<-s.tick
		s.putPathsBack(&u.estate, main)
	}
	s.all[0].until = s.all[0].until.Add(-2 * goersLimit)
	<-s.tick
	if s.putPathsBack(&u.estate, false); s.tick != nil || len(s.all) > 0 {
		t.Error("a process is watched for ever")
	}
}
