//go:build !race

package testutil

// raceEnabled tells whether the race detector is on.
const raceEnabled = false
