package canary

import "net/http"

// Decide is the decision alone, without counters and handlers.
func (rt *Router) Decide(w http.ResponseWriter, r *http.Request) Side {
	side, _ := rt.decide(w, r)
	return side
}
