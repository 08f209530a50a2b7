package session_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/midair-go/midair/session"
)

// Keys in a file that a secret manager writes. To rotate them, put a new line in front.
func ExampleKeyRing_Follow() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "session.keys")
	if err := os.WriteFile(path, []byte("# of this year\nR2bXkmdkdvnyVn6xQm3H5dSzzu6PzsXqNnvGkW1G\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	keys := &session.KeyRing{}
	if err := keys.Follow(path); err != nil {
		fmt.Println(err)
		return
	}
	sm := session.NewManager(session.Dir("sessions"), session.Options{Keys: keys})
	for _, k := range sm.Keys().Status() {
		fmt.Println(k.ID, k.State)
	}
	// Output: 1cd4fddf active
}
