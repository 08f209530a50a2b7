//go:build !unix

package pidfile

import "os"

// openSafely has no flags on this platform.
const openSafely = 0

// owner returns noUID: this platform has no uids.
func owner(os.FileInfo) int { return noUID }

// names returns 1, because hard links are not counted on this platform.
func names(os.FileInfo) int { return 1 }

// othersMayWrite returns false, because it is not known here which users may write. If it returned true, follow would refuse
// every symbolic link.
func othersMayWrite(string) bool { return false }

func lock(*os.File, bool) (taken bool) { return false }
