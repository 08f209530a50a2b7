// Package testclient controls the programs of package testservice from the side of the tests: Service starts a service and
// upgrades, Peer is a client with a single connection, Manager plays systemd, and Fault makes a process fail at a step.
package testclient
