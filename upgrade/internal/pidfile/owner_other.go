//go:build !unix

package pidfile

import "os"

// openSafely adds nothing here.
const openSafely = 0

// owner is not known here.
func owner(os.FileInfo) int { return noUID }

// names are not counted here.
func names(os.FileInfo) int { return 1 }

// othersMayWrite is false: without owners, true would refuse every file.
func othersMayWrite(string) bool { return false }

func lock(*os.File, bool) (taken bool) { return false }
