package plan

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// DirEnv is the environment variable with the directory of a service: settings, sockets and records.
const DirEnv = "MIDAIR_SVC_DIR"

// ManagerEnv is the environment variable with the directory of the service manager, for the launcher.
const ManagerEnv = "MIDAIR_TEST_MANAGER"

// Settings of a service. A test writes the settings to the service's directory, and each generation reads the settings at
// its start. Judges and smoke tests read the settings again.
type Settings struct {
	Place
	Upgrading
	Supervision
	Serving
	Records
	Keeping
	Behaviour
}

// Place is where a service listens, and the limits of the machine.
type Place struct {
	Network, Addr string // of the main listener; default network: tcp
	PIDFile       string
	Many          int           // listeners more, on the unix sockets "0", "1", ... in its directory
	Ports         int           // listeners more, on ports that the kernel chooses, which are in the file "ports"
	Systemd       bool          // the listeners are the sockets "web" and "admin" of a service manager
	NoFile        uint64        // limit of open files; 0: that of the test
	Clock         time.Duration // how wrong the clock is that people read
}

// Upgrading holds the options of upgrade.Options with the same names.
type Upgrading struct {
	Soak, Timeout, AbortGrace, Silence time.Duration
	StuckAfter                         time.Duration
	MaxGenerations                     int
	Sticky                             bool
	Split                              Split
	MayClose                           []string
	AllowPlain, AllowWrapper           bool
	Version                            string
}

// Supervision holds the options of upgrade.Options for Supervise.
type Supervision struct {
	Supervisor      string // default: never
	Undumpable      bool   // no other process may look into a generation
	Simple          bool   // the first generation is the process of a unit of systemd that is Type=simple
	Cleaned         bool   // a wrapper takes the variables of the supervisor out of the environment
	Guard, Watchdog time.Duration
	GiveUp          time.Duration
}

// Serving says how the HTTP server of a service serves and drains.
type Serving struct {
	ReadTimeout, HeaderTimeout, IdleTimeout time.Duration
	IdleGrace                               time.Duration
	H2C                                     bool // HTTP/2 without TLS too
	NoMove                                  bool // idle connections stay until they are closed
	Ignores                                 bool // the servers are http.Serve, which ignores the end of serve's context
}

// Records are what a service writes for the test.
type Records struct {
	NoNotes    bool // the service does not write down from where it has accepted
	Quiet      bool // the program says nothing itself when serve has returned
	Broadcasts bool // every process broadcasts on the orders of the test, and writes down the messages that it gets
}

// Keeping is about a second kept value of a service, the blob.
type Keeping struct {
	Kept       int  // the bytes of the blob; 0: there is none
	KeptCounts bool // the blob has the method Changes
}

// Behaviour is the conduct of the next generations, their judges and their peers.
type Behaviour struct {
	Bad             Misbehaviour
	Trouble         Trouble
	RestartsFail    bool // a process that the supervisor starts again exits with status 7 before upgrade.New
	BadBuildCrashes bool // a generation of the build "bad" exits a moment after it has become the service
	Plain           bool // the next generation knows tableflip only
	Meddling        Meddling
	Verify          Verification
	Smoke           SmokeTest
	Bake            Judge
	Weights         []float64     // the steps of BakeSteps
	Standby         time.Duration // of BakeBlueGreen
	Lock            Lock          // the service holds a lock, its exclusive resource
	Names           Names         // a service for datagrams beside HTTP
	Drop            Drop          // when a generation that has begun as root becomes Nobody; default: never
}

// LongPath is a path of 100 bytes in dir.
func LongPath(dir string, n int) string {
	path := filepath.Join(dir, strconv.Itoa(n)+"-")
	return path + strings.Repeat("x", 100-len(path))
}
