package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Step is a part of a rollout, in which the canary has one weight. A step ends when the time and the number of requests of the
// step are over and nothing speaks against the canary: see the package text.
type Step struct {
	// Weight is the share of the canary, above 0 and at most 1.
	Weight float64
	// For is how long the step lasts at least. The time during which the rollout is paused or held does not count. Default: 0.
	For time.Duration
	// MinSamples is how many requests of the canary have to end in the step at least. Only requests whose side chance has decided
	// count, so a step with the weight 1 cannot have MinSamples. Default: 0.
	MinSamples uint64
	// Gate makes the rollout wait at the end of the step until an operator calls Resume. Default: false.
	Gate bool
}

// Steps are the plan of a rollout, in rising order of the weights. After the last step, the canary gets all requests.
//
// In JSON, steps are a list of objects, and each step has a time. In a feature flag, put the list into an object, because a variant
// of a flag is a boolean, a string, a number or an object. The value of the flag is then a struct with a field of the type Steps:
//
//	{"steps": [{"weight": 0.05, "for": "10m", "min_samples": 1000}, {"weight": 0.5, "for": "30m", "gate": true}]}
//
// As text, for a flag of the command line, a step is a share with a time, and perhaps a number of requests and the word gate:
//
//	5%:10m:1000,50%:30m:gate
type Steps []Step

// jsonStep is a Step in JSON.
type jsonStep struct {
	Weight     float64 `json:"weight"`
	For        string  `json:"for"`
	MinSamples uint64  `json:"min_samples,omitempty"`
	Gate       bool    `json:"gate,omitempty"`
}

// MarshalJSON returns the step with its time as text.
func (s Step) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonStep{Weight: s.Weight, For: s.For.String(), MinSamples: s.MinSamples, Gate: s.Gate})
}

// UnmarshalJSON reads a step.
func (s *Step) UnmarshalJSON(data []byte) error {
	var j jsonStep
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("rollout: a step: %w", err)
	}
	d, err := time.ParseDuration(j.For)
	if err != nil {
		return fmt.Errorf(`rollout: for is %q in a step: give a time such as "10m"`, j.For)
	}
	*s = Step{Weight: j.Weight, For: d, MinSamples: j.MinSamples, Gate: j.Gate}
	return nil
}

// errNoStep: a plan has no step.
var errNoStep = errors.New("rollout: the plan has no step: give at least one, such as {Weight: 0.05, For: 10 * time.Minute}")

// Check returns an error if the steps are no plan: without a step, with weights that do not rise or are not above 0 and at most
// 1, with a time below 0, or with MinSamples at the weight 1.
func (s Steps) Check() error {
	if len(s) == 0 {
		return errNoStep
	}
	before := 0.0
	for i, step := range s {
		switch {
		case !(step.Weight > 0 && step.Weight <= 1):
			return fmt.Errorf("rollout: step %d has the weight %v: choose a share above 0 and at most 1, such as 0.05", i+1, step.Weight)
		case step.Weight <= before:
			return fmt.Errorf("rollout: step %d has the weight %v, and the step before has %v: the weights have to rise", i+1, step.Weight, before)
		case step.Weight == 1 && step.MinSamples > 0:
			return fmt.Errorf("rollout: step %d has the weight 1 and MinSamples: only requests that are drawn count, and at 1 none is drawn", i+1)
		case step.For < 0:
			return fmt.Errorf("rollout: step %d lasts %v: choose a time of 0 or more, such as 10m", i+1, step.For)
		}
		before = step.Weight
	}
	return nil
}

// String returns the steps as text.
func (s Steps) String() string {
	var all []string
	for _, step := range s {
		share := strconv.FormatFloat(math.Round(step.Weight*1e9)/1e7, 'f', -1, 64)
		text := share + "%:" + step.For.String()
		if step.MinSamples > 0 {
			text += ":" + strconv.FormatUint(step.MinSamples, 10)
		}
		if step.Gate {
			text += ":gate"
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

// Set reads steps from text, so that a *Steps is a flag.Value. The errors are those of a text that is no steps, and that of
// Check.
func (s *Steps) Set(text string) error {
	var steps Steps
	for part := range strings.SplitSeq(text, ",") {
		step, err := parseStep(part)
		if err != nil {
			return err
		}
		steps = append(steps, step)
	}
	if err := steps.Check(); err != nil {
		return err
	}
	*s = steps
	return nil
}

func parseStep(text string) (s Step, err error) {
	fields := strings.Split(text, ":")
	percent, err := strconv.ParseFloat(strings.TrimSuffix(fields[0], "%"), 64)
	if err != nil || !strings.HasSuffix(fields[0], "%") || len(fields) < 2 {
		return s, fmt.Errorf(`rollout: step %q: write a share and a time, such as "5%%:10m"`, text)
	}
	s.Weight = percent / 100
	if s.For, err = time.ParseDuration(fields[1]); err != nil {
		return s, fmt.Errorf(`rollout: step %q: %q is no time: write one such as "10m"`, text, fields[1])
	}
	for _, field := range fields[2:] {
		n, err := strconv.ParseUint(field, 10, 64)
		switch {
		case field == "gate":
			s.Gate = true
		case err == nil:
			s.MinSamples = n
		default:
			return s, fmt.Errorf(`rollout: step %q: %q is neither a number of requests nor "gate"`, text, field)
		}
	}
	return s, nil
}
