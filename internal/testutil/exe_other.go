//go:build !windows

package testutil

// exeSuffix is what the name of a program ends with.
const exeSuffix = ""
