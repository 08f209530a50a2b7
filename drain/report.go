package drain

import (
	"maps"
	"sync"
	"time"
)

// A Report describes the course of a drain.
type Report struct {
	// Handover is true if the drain was for a handover: another process went on serving.
	Handover bool `json:"handover"`
	// Began is when the drain began.
	Began time.Time `json:"began"`
	// Took is how long the drain lasted.
	Took time.Duration `json:"took"`
	// Phases has the durations of the phases of the drain: of Propagating if the server has waited for [Options.Propagation], of
	// Draining, and of Flushing if there is an [Options.Flush]. Jobs is a part of Draining and has no duration of its own.
	// LameDuck comes before the drain, so its time is neither in Phases nor in Took.
	Phases map[Phase]time.Duration `json:"phases"`
	// Left lists the entries that were unfinished when Grace had run out, each with the last action against it.
	Left []Entry `json:"left,omitempty"`
	// Err is the error of the drain, as Serve returns it; empty after a clean drain. If an accept has failed, Serve returns
	// that error too, but Err does not contain it.
	Err string `json:"error,omitempty"`
}

// A journal writes the Report while the drain runs, and sets the stage of the course.
type journal struct {
	course *course

	mu      sync.Mutex
	entered time.Time // when the present stage began
	pauses  bool      // the stage propagating has a pause, so its duration is reported
	report  Report
}

// begin notes the beginning of the drain.
func (j *journal) begin(handover bool) {
	j.mu.Lock()
	j.report.Began, j.report.Handover = time.Now(), handover
	j.mu.Unlock()
	j.enter(propagating)
}

// pause notes that the stage propagating has a pause.
func (j *journal) pause() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pauses = true
}

// enter ends the present stage, adds its duration to the duration of its phase, and begins the next stage (the parameter next).
// The stages serving, and propagating without a pause, have no duration in the Report.
func (j *journal) enter(next stage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if at := j.course.at(); at > propagating || at == propagating && j.pauses {
		j.report.Phases[phases[at]] += now.Sub(j.entered)
	}
	j.entered = now
	j.course.stage.Store(int32(next))
}

// cut notes the entries that were unfinished when Grace had run out.
func (j *journal) cut(left []Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Left = left
}

// finish notes the end of the drain, and returns the Report.
func (j *journal) finish(err error) Report {
	j.mu.Lock()
	j.report.Took = time.Since(j.report.Began)
	if err != nil {
		j.report.Err = err.Error()
	}
	j.mu.Unlock()
	j.enter(drained)
	return j.read()
}

// read returns a copy of the Report as it is now.
func (j *journal) read() Report {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.report
	r.Phases = maps.Clone(r.Phases)
	return r
}

// began returns when the drain began; zero before the drain.
func (j *journal) began() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.report.Began
}
