// Package compat tries packages session and canary with a real browser, and package flags beside flagd and through the providers of
// vendors. It is a module of its own, so that the main module needs neither a browser nor the modules of vendors and frameworks.
package compat
