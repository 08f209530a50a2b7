// Another program that uses the library. It ends at once.
package main

import (
	"os"

	"github.com/midair-go/midair/upgrade"
)

func main() {
	_, _ = upgrade.New, os.Stdout
	os.Exit(3)
}
