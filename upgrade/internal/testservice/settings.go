//go:build linux

package testservice

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// readSettings reads the settings, and returns the directory of the service too.
func readSettings() (s plan.Settings, dir string, err error) {
	dir = os.Getenv(plan.DirEnv)
	b, err := os.ReadFile(filepath.Join(dir, "settings"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, dir, err
}
