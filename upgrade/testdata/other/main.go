// Another program that uses the library. It ends at once.
package main

import (
	"os"

	"github.com/midair-go/midair/upgrade"
)

func main() {
	if len(os.Args) > 100 { // never, and the linker does not know
		_, _ = upgrade.New(upgrade.Options{})
	}
	os.Exit(3)
}
