// A program that knows tableflip only, and asks services with the library for upgrades. It ends at once.
package main

import (
	"context"
	"os"

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/upgrade"
)

func main() {
	_, _ = tableflip.New(tableflip.Options{})
	if len(os.Args) > 1 {
		_, _ = upgrade.Request(context.Background(), os.Args[1])
	}
	os.Exit(3)
}
