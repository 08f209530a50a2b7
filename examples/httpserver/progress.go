package main

import (
	"fmt"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/upgrade"
)

// progress is the part of a rollout.Status for people.
type progress struct {
	State  string     `json:"state"`
	Reason string     `json:"reason"`
	Step   int        `json:"step"`
	Steps  []struct{} `json:"steps"`
	Weight float64    `json:"weight"`
	Waits  string     `json:"waits"`
	Leads  bool       `json:"leads"`
	Judge  struct {
		Verdict      string       `json:"verdict"`
		Evidence     float64      `json:"evidence"`
		RegressionAt float64      `json:"regression_at"`
		Stable       judge.Counts `json:"stable"`
		Canary       judge.Counts `json:"canary"`
	} `json:"judge"`
}

// siteView is GET /status for a client.
type siteView struct {
	siteStatus
	Release progress `json:"release"`
	Rollout progress `json:"rollout"`
}

// judging reports whether an upgrade is being judged.
func (s *siteView) judging() bool {
	c := s.Upgrade.Candidate
	return c != nil && c.Phase == upgrade.PhaseBake && s.Release.State == "ramping"
}

// String returns a line of at most 70 columns.
func (p progress) String() string {
	j := p.Judge
	return fmt.Sprintf("%3.0f%%: canary %d bad of %s, stable %d of %s, evidence %s of %.0f",
		100*p.Weight, j.Canary.Bad, thousands(int(j.Canary.Requests)), j.Stable.Bad, thousands(int(j.Stable.Requests)),
		plain(j.Evidence), j.RegressionAt)
}

// plain writes a number with as many digits as people look at.
func plain(f float64) string {
	switch {
	case f < 10:
		return fmt.Sprintf("%.1f", f)
	case f < 10_000:
		return fmt.Sprintf("%.0f", f)
	}
	return "10,000 and more"
}
