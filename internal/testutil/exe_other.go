//go:build !windows

package testutil

// exeSuffix is the end of the name of each program.
const exeSuffix = ""
