//go:build linux

package testservice

import (
	"errors"
	"syscall"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// drops are the times when a service may drop root's rights.
var drops = map[plan.Drop]struct{}{plan.DropFirst: {}, plan.DropListening: {}, plan.DropAsked: {}}

// drop makes the whole process another user if the settings say so for this time, and if it is root.
func drop(set plan.Settings, now plan.Drop) error {
	if set.Drop != now || syscall.Getuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(plan.Nobody), syscall.Setuid(plan.Nobody))
}
