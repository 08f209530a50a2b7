// Package races tries what goes wrong when requests of one visitor meet in two processes: lost updates, a destroyed session that
// is alive again, a token from before a login that reaches what comes after it. The same requests go to a service with
// github.com/alexedwards/scs/v2, whose figures are in the log of the tests.
package races
