package testutil

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownSession makes a started process the leader of a session, as a service manager does. The session shows to which family a
// zombie belongs, since a zombie has no environment.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func killPID(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) } // fails if the process has ended

// process is a process as described by /proc/<pid>/stat.
type process struct {
	pid, parent, session int
	zombie               bool
	began                uint64 // when the process was started, in ticks since the boot
}

// processes lists all processes of the machine.
func processes() []process {
	names, err := readDirNames("/proc")
	if err != nil {
		return nil
	}
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

func readDirNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false // the process has ended
	}
	// The second field is the command in parentheses, with any bytes. After it comes the state.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return process{}, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n }
	began, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	state := fields[0][0]
	return process{pid, num(1), num(3), state == 'Z' || state == 'X', began}, true
}

// carries returns found if the entry is in the environment with which a process was started, and none if the process has no
// environment: a zombie has none, and neither has a process for a moment during exec.
func carries(pid int, entry string) (found, none bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false, false
	}
	for env := range bytes.SplitSeq(b, []byte{0}) {
		if string(env) == entry {
			return true, false
		}
	}
	return false, len(b) == 0
}

// pidsWith lists the living processes with the entry in their environment.
func pidsWith(entry string) []int {
	var pids []int
	for _, p := range processes() {
		if found, _ := carries(p.pid, entry); found && !p.zombie {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func familyPIDs(f *Proc) []int {
	var pids []int
	all := processes()
	members := map[int]bool{}
	for _, p := range all {
		found, none := carries(p.pid, familyEnv+"="+f.family)
		first := p.pid == f.PID() && f.running()
		members[p.pid] = first || found || none && p.session == f.PID() || adopter.family(p) == f.PID()
	}
	addDescendants(members, all)
	for _, p := range all {
		if !members[p.pid] {
			continue
		}
		adopter.note(f.PID(), p) // a zombie too: it becomes an orphan if its parent dies
		if !p.zombie {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// addDescendants adds the processes with a parent among the members. A server that has written its title over its environment
// is found by nothing else.
func addDescendants(members map[int]bool, all []process) {
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if members[p.parent] && !members[p.pid] {
				members[p.pid], grown = true, true
			}
		}
	}
}

// reaper makes the test process the parent of processes of its families whose parent has died, and waits for these orphans.
// It waits for each orphan by its pid, so that os/exec can wait for its own children. The reaper runs while there is a
// family.
type reaper struct {
	mu       sync.Mutex
	sessions map[int]bool   // the pids of started processes, each of which leads the session of its family
	seen     map[int]member // members of families that were seen alive, by pid: a member may leave the session
	stop     func()         // ends the goroutine of run
}

// member distinguishes a process of a family from a later process with the same pid.
type member struct {
	session int    // the session of the family
	began   uint64 // see process
}

var adopter = &reaper{sessions: map[int]bool{}, seen: map[int]member{}}

// start starts a process whose orphans are to be adopted.
func (r *reaper) start(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if len(r.sessions) == 0 {
		r.run()
	}
	r.sessions[cmd.Process.Pid] = true
	return nil
}

// run starts a goroutine that calls reap when a child has ended. r.stop ends the goroutine and waits for its end.
func (r *reaper) run() {
	died := make(chan os.Signal, 1)
	quit, done := make(chan struct{}), make(chan struct{})
	signal.Notify(died, unix.SIGCHLD)
	go func() {
		defer close(done)
		for {
			select {
			case <-died:
				r.reap()
			case <-quit:
				return
			}
		}
	}()
	r.stop = func() {
		signal.Stop(died)
		close(quit)
		<-done
	}
}

// leave removes a family. If there is no other family, the reaper ends.
func (r *reaper) leave(session int) {
	r.mu.Lock()
	delete(r.sessions, session)
	maps.DeleteFunc(r.seen, func(_ int, m member) bool { return m.session == session })
	last, stop := len(r.sessions) == 0, r.stop
	r.mu.Unlock()
	if last {
		stop()
	}
}

// note notes that a member of a family was seen alive.
func (r *reaper) note(session int, p process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[session] {
		r.seen[p.pid] = member{session, p.began}
	}
}

// reap waits for the zombies among the adopted children.
func (r *reaper) reap() {
	for _, p := range processes() {
		if p.zombie && r.family(p) != 0 {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil) // an error means that the zombie has gone
		}
	}
}

// family returns the session of the family of p, and 0 if p is not an orphan that this process has adopted.
func (r *reaper) family(p process) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.parent != os.Getpid() || r.sessions[p.pid] {
		return 0
	}
	if m, ok := r.seen[p.pid]; ok && m.began == p.began {
		return m.session
	}
	if r.sessions[p.session] {
		return p.session
	}
	return 0
}

// settled calls reap, and reports whether this process has no child left that is an orphan of the family.
func (r *reaper) settled(session int) bool {
	r.reap()
	for _, p := range processes() {
		if r.family(p) == session {
			return false
		}
	}
	return true
}
