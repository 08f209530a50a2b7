// Package rollout moves the weight of a canary by a plan, while the canary is no worse than stable, and takes the canary back
// at once if it is worse.
//
//	ro, err := rollout.New(rollout.Options{Name: "cart-v2", Steps: rollout.Steps{
//		{Weight: 0.05, For: 10 * time.Minute},
//		{Weight: 0.25, For: 10 * time.Minute},
//		{Weight: 0.50, For: 30 * time.Minute, Gate: true},
//	}})
//	…
//	cart := canary.NewRouter(cartV1, cartV2, canary.Options{
//		Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe, Key: sm.Cohort,
//	})
//	go ro.Run(ctx)
//
// # What ends a step
//
// A step ends when its time and its number of requests are over, the rollout is neither killed nor held by the external judge,
// and the verdict of package judge is neither amber nor suspended. With Options.Proof, it must also be shown that the canary is
// not bad. Without Proof, which is the default, a step ends if nothing speaks against the canary. After few requests even a bad
// canary has nothing against it, so the log line of each step says how bad a canary would have been found by then.
//
// # What takes the canary back
//
// The statistical tests of package judge, at any moment; the budget of panics (Options.Panics); the limit of bad outcomes
// (Options.MaxBad); an operator; the external judge (Options.Opinion); the deadline of a step. The first three are final: the
// state is RolledBack, and Options.Kill is latched. (If Options.Worse is Hold, the tests only hold the rollout.) After the last
// three, the state is Aborted, Options.Kill is not latched, and Resume begins again.
//
// The process that decides, and in which Run runs, finds a worse canary in the goroutine of the request whose outcome shows it:
// when Observe returns, the weight is 0. Run itself looks each 100 ms. It finds what no end of a request shows: a request that
// runs for too long, an event that has waited for Judge.Settle, and the evidence of another process, which arrives with a
// message.
//
// # Several processes
//
// A Rollout goes on through an upgrade of the process with the same evidence, if it is a value for Keep of an Upgrader, and if
// all processes have the same Salt. While two processes live, one of them decides (Options.Follows), and the other one sends
// its evidence by Options.Broadcast. After a crash, a rollout begins again with the first step, and a latch in the file of
// Options.Kill stays.
//
// [Processes] is the rollout of a new process during an upgrade.
//
// # Goroutines
//
// Run looks at the evidence. It starts a goroutine for the log, and one for each of Options.Broadcast, Decided, Opinion, Ready
// and SetWeight that is set. If one of these functions blocks, neither a rollback nor the counting of the evidence waits for
// it, but Run does not return before the function has returned.
package rollout
