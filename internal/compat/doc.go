// Package compat tries packages session and canary with a real browser. It is a module of its own, so that the tests of the main
// module need no browser.
package compat
