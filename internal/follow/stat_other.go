//go:build !linux && !darwin && !freebsd && !netbsd

package follow

import "os"

// openFlag is empty: these systems have no pipes among their files, or no flag that keeps an open from waiting.
const openFlag = 0

// changeTime returns 0: the ctime is unknown.
func changeTime(os.FileInfo) int64 { return 0 }
