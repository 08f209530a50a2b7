// Package sessionsoak replaces a service again and again while visitors count in their sessions, and restarts the engine under
// the sessions meanwhile. A second service goes through all ways of a release: see TestHybridReleaseLosesNothing.
package sessionsoak
