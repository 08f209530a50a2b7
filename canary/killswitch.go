package canary

import (
	"encoding"
	"log/slog"
	"time"

	"github.com/midair-go/midair/internal/killswitch"
)

// KillSwitchOptions of a KillSwitch. The zero value works: the switch is in memory only.
type KillSwitchOptions struct {
	// File is the path of the file in which the switch outlives a crash, a kill -9 and a restart. Processes that share the
	// file lose nothing of each other. The directory has to exist; beside the file there is a lock file, File + ".lock". A file
	// that is missing is open. If the file cannot be read at the start, or is damaged, the switch is killed in this process only,
	// and Status says why, until the next Kill, Latch or Revive in the process replaces the file, or a later write can read the
	// file. A Revive in another process changes nothing here. On Windows, processes that write the file at the same moment can
	// lose a change. Default: none.
	File string
	// Broadcast sends data to all other living processes of the service, which pass it to UnmarshalBinary of the switch with
	// the same name. The method Broadcast of an Upgrader fits. Broadcast is called after each change that is made in this
	// process, in the goroutine that makes the change. Default: none.
	Broadcast func(name string, data []byte) error
	// Logger gets a line for each change. Its handler is called in another goroutine: no change waits for a log. Default:
	// slog.Default().
	Logger *slog.Logger
}

// A KillSwitch stops rollouts: after Kill or Latch, every request of a [Router] with the switch in Options.Kill is stable, also
// a request for which Options.Choose has chosen the canary. An operator kills a rollout, a judge latches it. Both hold, whatever the
// weight does, until Revive.
//
// States of several processes merge: killed wins. A revival clears exactly the kills and latches known to the reviving process,
// so a kill made elsewhere at the same time stays.
//
//	kill := canary.NewKillSwitch("cart-v2", canary.KillSwitchOptions{File: "cart-v2.kill", Broadcast: up.Broadcast})
//	up.Keep("cart-v2.kill", kill)
//	up.OnBroadcast("cart-v2", kill.UnmarshalBinary)
//
// Kill, Latch and Revive are in force in this process at once. After that they broadcast, and then write the file. If the
// broadcast or the write fails, the error is returned, Status shows the error, and Publish or the next change tries again; the
// change is in force in this process all the same. If the file has a kill that was unknown to the process, the switch
// broadcasts once more: the killing process may have died before the broadcast arrived. A change waits for the disk for at most
// 3 seconds, and for as long as Broadcast takes.
//
// Several routers may share a KillSwitch. The zero value is a switch without a name, in memory only.
type KillSwitch struct{ sw killswitch.Switch }

var (
	_ encoding.BinaryMarshaler   = (*KillSwitch)(nil)
	_ encoding.BinaryUnmarshaler = (*KillSwitch)(nil)
)

// NewKillSwitch returns the KillSwitch with the given name, or "canary" if the name is empty, with the state in the file.
// NewKillSwitch does not write.
func NewKillSwitch(name string, opts KillSwitchOptions) *KillSwitch {
	if name == "" {
		name = defaultName
	}
	inner := killswitch.Options{Package: "canary", Name: name, File: opts.File, Logger: opts.Logger}
	if opts.Broadcast != nil {
		inner.Broadcast = func(data []byte) error { return opts.Broadcast(name, data) }
	}
	k := new(KillSwitch)
	k.sw.Start(inner)
	return k
}

// Kill stops the rollout, for an operator. The reason is for people, and is cut at 512 bytes.
func (k *KillSwitch) Kill(reason string) error { return k.sw.Kill(reason) }

// Latch stops the rollout, for a judge. Latch differs from Kill in the words of Status and of the log.
func (k *KillSwitch) Latch(reason string) error { return k.sw.Latch(reason) }

// LatchNow is Latch in this process only, without the file and the broadcast, so a request may call it. LatchNow reports
// whether something has changed; then Publish is to be called, in a goroutine that may wait.
func (k *KillSwitch) LatchNow(reason string) (changed bool) { return k.sw.LatchNow(reason) }

// Publish broadcasts and writes the state, if a change was not sent yet or is not in the file: after LatchNow, or after an
// error.
func (k *KillSwitch) Publish() error { return k.sw.Publish() }

// Revive clears every kill and every latch known to this process. If the file has a kill unknown to this process, the rollout
// is stopped again when Revive returns, and the error says so.
func (k *KillSwitch) Revive(reason string) error { return k.sw.Revive(reason) }

// MarshalBinary returns the state for UnmarshalBinary of another process, without a kill for a File that cannot be read.
func (k *KillSwitch) MarshalBinary() ([]byte, error) { return k.sw.Encode(), nil }

// UnmarshalBinary merges the state of another process into the state of this process, and writes the file if the state has
// changed. UnmarshalBinary does not broadcast; if the file has a kill that was unknown, the next change or Publish does. It may
// be called at any time and more than once: as a kept value of an upgrade, and for each message of a broadcast. The error is
// for data without a state; an error of the file is logged and shown by Status.
func (k *KillSwitch) UnmarshalBinary(data []byte) error { return k.sw.Merge(data) }

// word returns the state, which is open without a switch.
func (k *KillSwitch) word() killswitch.Word {
	if k == nil {
		return killswitch.Open
	}
	return k.sw.Word()
}

// KillStatus is the state of a KillSwitch.
type KillStatus struct {
	// Name is the name of the switch.
	Name string `json:"name"`
	// State is "open", "latched" or "killed".
	State string `json:"state"`
	// Reason is the reason of the last kill, or else of the last latch, that is in force, and in an open state of the last
	// revival.
	Reason string `json:"reason,omitempty"`
	// At is the time of this kill, latch or revival.
	At time.Time `json:"at,omitzero"`
	// Host is the name of the host on which the switch was killed, latched or revived.
	Host string `json:"host,omitempty"`
	// PID is the process that has killed, latched or revived.
	PID int `json:"pid,omitempty"`
	// File is the path of the file.
	File string `json:"file,omitempty"`
	// FileError is why the file does not have the state. Empty: the file has it, or there is none.
	FileError string `json:"file_error,omitempty"`
	// BroadcastError is why the last broadcast has failed.
	BroadcastError string `json:"broadcast_error,omitempty"`
}

// Status returns the state, with the reason, the time and the process of the deciding change. Status does no I/O.
func (k *KillSwitch) Status() KillStatus { return KillStatus(k.sw.Status()) }
