package canary

import (
	"log/slog"
	"net/http"
	"slices"

	"github.com/midair-go/midair/internal/logqueue"
)

// Options of a Router. The zero value works, and sends everything to the stable handler.
type Options struct {
	// Name names the rollout in logs and in the status, and is the default of Salt. Give each rollout a name of
	// its own: rollouts with the same name put the same visitors on the canary side. Default: "canary".
	Name string
	// Weight is the share of the traffic that the canary gets, in [0, 1]. It is called for every request, so it should be one atomic
	// load. Less than 0, not a number, and a panic count as 0, more than 1 as 1. What is not a number and a panic are counted in
	// Status, and the first of each is logged. Default: that of Switch, or else 0.
	Weight func() float64
	// Switch changes all requests over to the canary, and back: blue and green. Several routers may share one. Default: none.
	Switch *Switch

	// Kill stops the rollout: while it is killed or latched every request is stable, whatever the weight and Choose say.
	// Several routers may share a switch. Default: none.
	Kill *KillSwitch

	// Choose chooses the side of a request, whatever the weight, or returns false. The chosen requests are counted as forced.
	// ByHeader, ByCookie and ByRoute return functions for Choose. Choose is called for every request while there is a canary that
	// is neither killed nor latched. A request for which Choose panics, or returns neither side, is stable; both are counted as
	// panics in Status. Default: none.
	Choose func(*http.Request) (Side, bool)

	// Rescue lets the stable handler answer requests whose canary fails before anything is sent. Default: none.
	Rescue *Rescue

	// Begin is called before a handler gets a request, in the goroutine of the request, with what is known of the outcome by then:
	// Request, Side, Weight, Unit, and the flags Forced and SecondTry. The result comes back in Outcome.Begun. After each Begin,
	// Observe is called once with the same request and side, whatever the handler does; a rescued request has two of each. Begin
	// should be quick; a result that is a pointer costs no allocation. A panic is counted in Status, and the first is logged; the
	// handler gets the request all the same. Default: none.
	Begin func(Outcome) any
	// Observe is called with the outcome of each request, in the goroutine of the request, when the handler has ended; for a rescued
	// request it is called twice. The client may still wait for the end of the answer, so Observe should be quick. A panic is counted
	// in Status, and the first is logged. Default: none.
	Observe func(Outcome)
	// Bad reports whether an outcome is bad. Status counts the bad ones. A panic is counted in Status, the first is logged, and
	// Outcome.Failed decides. Default: Outcome.Failed.
	//
	// If Begin, Observe and Bad are all nil, the router does not look at outcomes. That saves two readings of the clock and
	// sometimes one allocation for each request, and up to 75 kilobytes for the router. To have the outcomes in Status only, set Bad
	// to Outcome.Failed.
	Bad func(Outcome) bool

	// Key returns the key of a request: requests with the same key are decided the same. The key should be something that the
	// server has issued, since a client that can choose keys can choose the side. Where Key returns "" the Cookie decides, or
	// else every request is drawn by itself. Key is called only while the weight is between 0 and 1. A request for which Key
	// panics is stable; the panic is counted in Status. Default: none.
	Key func(*http.Request) string
	// Cookie keeps visitors that have no Key on one side, by a cookie that is set with the first answer that the weight
	// decides. Several routers may share a Cookie. A Cookie that NewCookie has not made counts as none. Default: none.
	Cookie *Cookie
	// Salt selects which keys are in the share. The same salt selects the same keys in every process and on every
	// host; another salt selects others. Default: Name.
	Salt string

	// Vary names all request headers that Choose and Key read, such as "Authorization". Answers that Choose or a key decides then
	// tell caches to compare these headers. Empty and not nil says that Choose reads nothing but the method and the URL. In all
	// other cases without names shared caches must not store such an answer, but where the function calls the Cohort or Started of
	// a session.Manager whose middleware is around the router: the answer says Vary: Cookie. A function that looks at other headers
	// as well, and calls these only then, needs Vary, with "Cookie" in it. Default: nil.
	Vary []string
	// SameForAll reports whether both sides give the same answer to a request, such as one for a static file. Such a request is
	// drawn by itself, without Key and Cookie. The answer sets no cookie and tells caches nothing. SameForAll is called only
	// while the weight is between 0 and 1, or if Choose is set. Default: no answers are the same.
	SameForAll func(*http.Request) bool

	// SideInContext makes the side known to the handlers, through SideFromContext. It costs one allocation a request, or none
	// inside the middleware of a session.Manager.
	SideInContext bool
	// Logger gets a line when the state of another process has another salt. The log handler is called in another
	// goroutine: no upgrade waits for a log. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with their defaults.
func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Weight == nil && o.Switch != nil {
		o.Weight = o.Switch.Weight
	}
	if o.Weight == nil {
		o.Weight = Fixed(0)
	}
	if o.Salt == "" {
		o.Salt = o.Name
	}
	if o.Cookie != nil && o.Cookie.prefix == "" { // not from NewCookie: it has neither name nor key
		o.Cookie = nil
	}
	o.Vary = slices.Clone(o.Vary)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	return o
}

// observed reports whether a function looks at outcomes.
func (o *Options) observed() bool { return o.Begin != nil || o.Observe != nil || o.Bad != nil }

// Fixed returns a weight for Options.Weight that never changes.
func Fixed(weight float64) func() float64 {
	return func() float64 { return weight }
}

// clamp brings a weight into [0, 1]; NaN becomes 0.
func clamp(weight float64) float64 {
	if !(weight > 0) {
		return 0
	}
	return min(weight, 1)
}
