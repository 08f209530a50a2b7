package canary

import "net/http"

// Decide is the decision alone, without counters and handlers.
func (rt *Router) Decide(r *http.Request) Side { return rt.decider.decide(r).side }
