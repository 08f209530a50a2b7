package main

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/session"
)

// defaultFlags is the content of a new flag file. Each flag is used: cart-v2 is the weight of the canary, cart-v2.plan moves the
// weight by steps once cart-v2.plan is enabled, banner and dark-mode change the page, and GET /flag/{key} returns each flag.
//
//go:embed flags.default.json
var defaultFlags string

// shop is the part of the site that depends on the visitor. The session manager and the router are outside of the shop, so that
// cohort and side are known.
type shop struct {
	ff     *flags.Flags
	cohort func(*http.Request) string
	weight func() float64
	banner flags.Flag[string]
	dark   flags.Flag[bool]
	client *openfeature.Client
	types  sync.Map // string to flagType: how a flag was evaluated the last time
}

// newShop returns a shop whose flags are evaluated for the visitors of sm. The weight is the share of the new cart.
func newShop(ff *flags.Flags, sm *session.Manager, weight func() float64) *shop {
	s := &shop{
		ff: ff, cohort: sm.Cohort, client: ff.Client(), weight: weight,
		banner: ff.StringFlag("banner", ""), dark: ff.BoolFlag("dark-mode", false),
	}
	for key, t := range map[string]flagType{
		"cart-v2": asNumber, "cart-v2.plan": asObject, "banner": asString, "dark-mode": asBool, "limits": asObject,
	} {
		s.types.Store(key, t)
	}
	return s
}

// with returns the shop with a cart. Both sides of the router are shops, and differ in the cart only.
func (s *shop) with(cart http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/cart", cart)
	mux.HandleFunc("GET /flag/{key}", s.flag)
	mux.HandleFunc("GET /visitor", s.visitor)
	return mux
}

// side returns the attribute canary.side for the rules of flags. The side is empty for requests that did not come through the
// router.
func side(ctx context.Context) string {
	if s, ok := canary.SideFromContext(ctx); ok {
		return s.String()
	}
	return ""
}

// count counts the visitor's requests, however many processes answer at once: the answer is the stored count.
func count(w http.ResponseWriter, r *http.Request) {
	var n int
	err := session.Update(r.Context(), func(v *session.Values) error {
		n = 0 // it may run again, if another request came first
		if _, err := v.Get("count", &n); err != nil {
			return err
		}
		n++
		return v.Put("count", n)
	})
	if err != nil {
		unavailable(w, r, err)
		return
	}
	noStore(w, "text/plain; charset=utf-8")
	fmt.Fprintln(w, n)
}

func unavailable(w http.ResponseWriter, r *http.Request, err error) {
	slog.Error("no session", "path", r.URL.Path, "err", err)
	http.Error(w, "the session is not available, try again", http.StatusServiceUnavailable)
}

// about returns the context of a request with the visitor for whom flags are evaluated.
func (s *shop) about(r *http.Request) context.Context {
	return s.ff.With(r.Context(), s.cohort(r), nil)
}

// visitorAnswer is the answer of /visitor, for the page.
type visitorAnswer struct {
	Count  int     `json:"count"`
	Side   string  `json:"side"`
	Weight float64 `json:"weight"`
	Banner string  `json:"banner"`
	Dark   bool    `json:"dark_mode"`
}

// visitor answers with the visitor as the service knows the visitor, and changes nothing.
func (s *shop) visitor(w http.ResponseWriter, r *http.Request) {
	n, _, err := session.Get[int](r.Context(), "count")
	if err != nil {
		unavailable(w, r, err)
		return
	}
	ctx := s.about(r)
	writeJSON(w, http.StatusOK, visitorAnswer{
		Count: n, Side: side(ctx), Weight: s.weight(), Banner: s.banner.Get(ctx), Dark: s.dark.Get(ctx),
	})
}

// flagAnswer is the answer of /flag/{key}. A value of null means that the program has to use its default.
type flagAnswer struct {
	Key     string             `json:"key"`
	Value   any                `json:"value"`
	Variant string             `json:"variant,omitempty"`
	Reason  openfeature.Reason `json:"reason"`
	Error   string             `json:"error,omitempty"`
}

// flag evaluates any flag of the file for the visitor, through OpenFeature.
func (s *shop) flag(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	value, d := s.evaluate(s.about(r), key)
	if d.Variant == "" {
		value = nil
	}
	writeJSON(w, flagStatus(d.ErrorCode), flagAnswer{key, value, d.Variant, d.Reason, d.ErrorMessage})
}

func flagStatus(code openfeature.ErrorCode) int {
	switch code {
	case "":
		return http.StatusOK
	case openfeature.FlagNotFoundCode:
		return http.StatusNotFound
	case openfeature.ProviderNotReadyCode:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// flagType is a type of OpenFeature.
type flagType int

const (
	asBool flagType = iota
	asString
	asNumber
	asObject
)

// evaluate evaluates a flag of unknown type: OpenFeature has a method for each type, so evaluate tries the types.
func (s *shop) evaluate(ctx context.Context, key string) (any, openfeature.ResolutionDetail) {
	known, ok := s.types.Load(key)
	if ok {
		if value, d := s.evaluateAs(ctx, key, known.(flagType)); d.ErrorCode != openfeature.TypeMismatchCode {
			return value, d
		}
	}
	for t := asBool; ; t++ {
		value, d := s.evaluateAs(ctx, key, t)
		if d.ErrorCode == "" && d.Variant != "" {
			s.types.Store(key, t) // keys of the file only: there is no end to others
		}
		if d.ErrorCode != openfeature.TypeMismatchCode || t == asObject {
			return value, d
		}
	}
}

func (s *shop) evaluateAs(ctx context.Context, key string, t flagType) (any, openfeature.ResolutionDetail) {
	var none openfeature.EvaluationContext // ctx has it
	switch t {
	case asBool:
		return untyped(s.client.BooleanValueDetails(ctx, key, false, none))
	case asString:
		return untyped(s.client.StringValueDetails(ctx, key, "", none))
	case asNumber:
		return untyped(s.client.FloatValueDetails(ctx, key, 0, none))
	default:
		return untyped(s.client.ObjectValueDetails(ctx, key, nil, none))
	}
}

// untyped drops the error, which the detail tells as well.
func untyped[T any](d openfeature.GenericEvaluationDetails[T], _ error) (any, openfeature.ResolutionDetail) {
	return d.Value, d.ResolutionDetail
}
