package upgrade

import (
	"errors"
	"testing"
)

// Run may be called once, and not after Close. Close may be called at any time. The test makes each call in each stage.
func TestEveryCallInEveryStageOfRun(t *testing.T) {
	for _, c := range []struct {
		stage, afterRun runStage
		refused         error // of Run
		stops           bool  // Close ends Run, or the wait for Run
	}{
		{stage: runAwaited, afterRun: runBegun, stops: true},
		{stage: runBegun, afterRun: runBegun, refused: ErrClosed, stops: true},
		{stage: runClosed, afterRun: runClosed, refused: ErrClosed},
	} {
		ctl := newControl()
		ctl.stage = c.stage
		if err := ctl.begin(); !errors.Is(err, c.refused) || ctl.stage != c.afterRun {
			t.Errorf("Run in stage %d: %v, then stage %d", c.stage, err, ctl.stage)
		}
		ctl.stage = c.stage
		if before := ctl.close(); before != c.stage || ctl.stage != runClosed {
			t.Errorf("Close in stage %d: before %d, then stage %d", c.stage, before, ctl.stage)
		}
		stopped := false
		select {
		case <-ctl.stop:
			stopped = true
		default:
		}
		if stopped != c.stops {
			t.Errorf("Close in stage %d: stop is closed: %v", c.stage, stopped)
		}
	}
}
