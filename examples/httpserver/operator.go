package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/upgrade"
)

// openFlags opens the flag file. An override of a flag is in force in all living processes at once, and outlives the processes
// in a file beside the flag file.
func openFlags(path string, up *upgrade.Upgrader) (*flags.Flags, error) {
	ff, err := flags.Open(path, flags.Options{
		Name: "flags", OverrideFile: path + ".overrides", Broadcast: up.Broadcast,
		Attributes: map[string]func(context.Context) string{"canary.side": side},
	})
	if err != nil {
		return nil, err
	}
	up.Keep("flags", ff) // last good values and overrides come from the old process
	up.OnBroadcast("flags", ff.UnmarshalBinary)
	up.Check("flags", ff.Ready)
	return ff, nil
}

// killSwitch returns the switch of the new cart: a kill stops the new cart in all living processes at once, and outlives the
// processes in a file beside the flag file.
func killSwitch(flagFile string, up *upgrade.Upgrader) *canary.KillSwitch {
	k := canary.NewKillSwitch("cart-v2", canary.KillSwitchOptions{
		File: filepath.Join(filepath.Dir(flagFile), "cart-v2.kill"), Broadcast: up.Broadcast,
	})
	up.Keep("cart-v2.kill", k)
	up.OnBroadcast("cart-v2", k.UnmarshalBinary)
	return k
}

// siteStatus is the answer of the admin listener's GET /status.
type siteStatus struct {
	Upgrade upgrade.Status `json:"upgrade"`
	Drain   drain.Status   `json:"drain"`
	Canary  canary.Status  `json:"canary"`
	Flags   flags.Status   `json:"flags"`

	Kill canary.KillStatus `json:"kill"`

	Release rollout.Status `json:"release"` // of the last progressive upgrade
	Rollout rollout.Status `json:"rollout"` // of the new cart

	Cart *subprocess.Status `json:"cart,omitempty"` // the process of the new cart, with -canary-bin
}

// actions returns the actions of an operator on the canary, the flags and the rollouts.
func actions(kill *canary.KillSwitch, ff *flags.Flags, release *rollout.Processes, cart *cartRollout) admin.Actions {
	return admin.Actions{
		"kill":     func(q url.Values) error { return kill.Kill(q.Get("reason")) },
		"revive":   func(q url.Values) error { return kill.Revive(q.Get("reason")) },
		"override": func(q url.Values) error { return override(ff, q) },
		"restore":  func(q url.Values) error { return restore(ff, q) },
		"pause":    operate(release, cart, (*rollout.Rollout).Pause),
		"resume":   operate(release, cart, (*rollout.Rollout).Resume),
		"promote":  operate(release, cart, (*rollout.Rollout).Promote),
	}
}

// override gives everybody the variant of the flag, for a time or until a restore. The error is a Refusal with status 400 if
// nothing has changed. With any other error the override is in force in the answering process.
func override(ff *flags.Flags, q url.Values) error {
	var until time.Time
	if text := q.Get("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return mistake(fmt.Errorf("for=%q: want a time such as 30m, or no for at all: %w", text, err))
		}
		until = time.Now().Add(d)
	}
	err := ff.Override(q.Get("flag"), q.Get("variant"), until, q.Get("reason"))
	if errors.Is(err, flags.ErrRefused) {
		return mistake(err)
	}
	return err
}

// restore ends the override of the flag. A flag without an override is no error.
func restore(ff *flags.Flags, q url.Values) error {
	if q.Get("flag") == "" {
		return mistake(errors.New("flag: want the key of the flag whose override is to end"))
	}
	return ff.Restore(q.Get("flag"), q.Get("reason"))
}

// mistake returns the error about a request with wrong parameters.
func mistake(err error) error {
	return &admin.Refusal{Status: http.StatusBadRequest, Answer: admin.Answer{Reason: err.Error()}}
}
