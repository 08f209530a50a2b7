package servers_test

import (
	"testing"

	"github.com/midair-go/midair/internal/testutil/servers"
)

// An SQL server that a test has started keeps its address and its data when it is killed and started again.
func TestSQLServersKeepTheirData(t *testing.T) {
	type server interface {
		SQL(text string) string
		Kill()
		Start()
		Restart()
		Suspend()
		Continue()
	}
	for name, start := range map[string]func() server{
		"PostgreSQL": func() server { return servers.StartPostgres(t) },
		"MariaDB":    func() server { return servers.StartMariaDB(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start()
			s.SQL("CREATE SCHEMA x")
			s.SQL("CREATE TABLE x.y (n INT)")
			s.SQL("INSERT INTO x.y VALUES (7)")
			s.Kill()
			s.Start()
			if got := s.SQL("SELECT n FROM x.y"); got != "7" {
				t.Fatalf("after Kill: %q", got)
			}
			s.Suspend()
			s.Continue()
			s.Restart()
			if got := s.SQL("SELECT n FROM x.y"); got != "7" {
				t.Fatalf("after Restart: %q", got)
			}
		})
	}
}

// A standby has what its primary has committed, and takes over when the primary is killed.
func TestPostgresStandbyTakesOver(t *testing.T) {
	primary := servers.StartPostgres(t)
	primary.SQL("CREATE TABLE y (n INT)")
	standby := primary.Standby()
	primary.Kill()
	standby.Promote()
	standby.SQL("INSERT INTO y VALUES (1)")
}
