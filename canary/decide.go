package canary

import (
	"math/rand/v2"
	"net/http"

	"github.com/midair-go/midair/internal/cohort"
	"github.com/midair-go/midair/internal/killswitch"
	"github.com/midair-go/midair/internal/request"
)

// A decider chooses the side of each request.
type decider struct {
	opts      *Options
	asked     asked
	hasCanary bool // there is a canary handler
}

// basis is the set of inputs of a decision, which caches have to know.
type basis uint8

const (
	onCookie basis = 1 << iota // a cookie: that of Options.Cookie, or the session's
	onVary                     // the header lines in Options.Vary
	onChance                   // nothing that a cache could compare

	onAll = onCookie | onVary | onChance
)

// cacheable reports whether caches store answers to requests of a method.
func cacheable(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == ""
}

// A decision is the side of a request, with the consequences for the answer.
type decision struct {
	side   Side
	forced bool    // Options.Choose has chosen the side
	weight float64 // the effective weight; 0 if forced, and if a function of the options has panicked
	basis  basis   // what caches have to be told that the side depends on
	visit  *visit  // the answer has to set its cookie; nil if there is none to set
	unit   unit    // by which the side was drawn
}

// decide returns the side of a request.
func (dr *decider) decide(r *http.Request) (d decision) {
	if !dr.hasCanary || dr.opts.Kill.word() != killswitch.Open {
		return d
	}
	if dr.opts.Choose != nil {
		d.side, d.forced, d.basis = dr.choose(r)
	}
	if !d.forced {
		weight, _ := dr.asked.weight() // 0 after a panic
		d.weight = clamp(weight)
	}
	weight := d.weight
	drawn := weight > 0 && weight < 1
	switch same := dr.opts.SameForAll != nil && (drawn || d.basis != 0) && dr.asked.sameForAll(r); {
	case same:
		d.basis = 0
		drawn = drawn && rand.Float64() < weight
	case drawn:
		drawn = dr.draw(r, weight, &d)
	}
	if drawn || weight >= 1 {
		d.side = Canary
	}
	if !cacheable(r.Method) {
		d.basis = 0
	}
	return d
}

// draw reports whether the request is in the share of weight, which is between 0 and 1.
func (dr *decider) draw(r *http.Request, weight float64, d *decision) bool {
	if dr.opts.Key != nil {
		key, basis, ok := dr.key(r)
		d.basis |= basis
		if !ok {
			d.weight = 0
			return false
		}
		if key != "" {
			d.unit.key = key
			return cohort.In(dr.opts.Salt, key, weight)
		}
	}
	if dr.opts.Cookie != nil {
		id, visit, ok := dr.opts.Cookie.visitor(r)
		d.basis |= onCookie
		d.visit = visit
		if ok {
			d.unit.id = id
			return cohort.In(dr.opts.Salt, string(id[:]), weight)
		}
	}
	d.basis |= onChance
	return rand.Float64() < weight
}

// key returns the key of the request and the basis of the key, and false if Options.Key has panicked.
func (dr *decider) key(r *http.Request) (string, basis, bool) {
	before := dr.notes(r)
	key, ok := dr.asked.key(r)
	if !ok {
		return "", onChance, false
	}
	return key, dr.since(r, before), true
}

// choose returns what Options.Choose returns, and what that depends on.
func (dr *decider) choose(r *http.Request) (Side, bool, basis) {
	before := dr.notes(r)
	side, forced := dr.asked.choose(r)
	if dr.opts.Vary != nil && len(dr.opts.Vary) == 0 {
		return side, forced, 0
	}
	return side, forced, dr.since(r, before)
}

// notes returns how often a cookie was read for the request, by packages that say so.
func (dr *decider) notes(r *http.Request) uint32 {
	if len(dr.opts.Vary) > 0 || request.From(r.Context()) == nil {
		return 0
	}
	return request.CookieNotes(r.Context())
}

// since returns what a function of the options depends on that was called after notes.
func (dr *decider) since(r *http.Request, before uint32) basis {
	switch {
	case len(dr.opts.Vary) > 0:
		return onVary
	case dr.notes(r) != before:
		return onCookie
	}
	return onChance
}
